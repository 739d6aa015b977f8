"""EM by the user's own map-reduce: accumulate, sum, update; Statistics as objects, bytes and files."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from datasets import init_arguments, problem
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_files import assert_equal, rewritten
from tolerances import SAME_FIT, SUM_RELATIVE

from fastgmm import BlockRows, DegenerateComponentError, GaussianMixture, RepairWarning, Statistics
from fastgmm.incremental import broaden, frame_of_rows
from fastgmm.structures import STRUCTURES

KINDS = ("full", "tied", "diag", "spherical")
ARRAYS = ("reference", "weight", "first", "second")
SUMS = ("log_likelihood", "log_max_responsibility", "total_weight", "pairs", "pairs_centred", "n_rows")
ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
# What is promised of lower bounds of 20 iterations beside fit's: the sums differ by their order alone.
FOLLOWS = 1e-12


def mixture_of(kind, start, **options):
    return GaussianMixture.from_parameters(*start[:3], covariance_type=kind, **options)


@pytest.fixture
def case(covariance_type):
    """Rows, and a mixture beside what they were drawn from."""
    X, start = problem(5, 700, 3, 4, covariance_type)
    return X, mixture_of(covariance_type, start)


def assert_same_bits(one, other):
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name
    for name in (*SUMS, "structure", "fingerprint", "pairs_single", "pairs_skipped"):
        assert getattr(one, name) == getattr(other, name), name
        assert type(getattr(one, name)) is type(getattr(other, name)), name
    for name in ("shift", "scale"):
        assert getattr(one.frame, name).tobytes() == getattr(other.frame, name).tobytes()


def assert_same_sums(one, other, tolerance=SUM_RELATIVE):
    np.testing.assert_array_equal(one.reference, other.reference)
    for name in ("weight", "first", "second", "log_likelihood", "log_max_responsibility", "total_weight"):
        a, b = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max()), err_msg=name)
    assert one.n_rows == other.n_rows


def quietly_fitted(X, kind, start, sample_weight=None, **options):
    mixture = GaussianMixture(len(start[0]), covariance_type=kind, **init_arguments(kind, start), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of not converging
        return mixture.fit(X, sample_weight=sample_weight)


# ---- accumulate ------------------------------------------------------------------------------------------


def test_sums_are_those_of_the_other_methods(case):
    X, mixture = case
    weight = np.linspace(0.0, 3.0, len(X))
    statistics = mixture.accumulate(X, weight)
    responsibilities = mixture.predict_proba(X) * weight[:, None]
    np.testing.assert_allclose(statistics.weight, responsibilities.sum(axis=0), rtol=SUM_RELATIVE)
    np.testing.assert_allclose(
        statistics.log_likelihood / statistics.total_weight,
        mixture.score(X, sample_weight=weight),
        rtol=1e-12,
    )
    assert statistics.total_weight == pytest.approx(weight.sum())
    z = (X[:, None, :] - statistics.reference) * statistics.frame.scale
    first = (responsibilities[:, :, None] * z).sum(axis=0)
    np.testing.assert_allclose(statistics.first, first, rtol=0, atol=1e-9)
    second = np.einsum("nk,nki,nkj->kij", responsibilities, z, z)
    second = {
        "full": second,
        "tied": second.sum(axis=0),
        "diag": np.einsum("kii->ki", second),
        "spherical": np.einsum("kii->k", second),
    }[statistics.structure]
    np.testing.assert_allclose(statistics.second, second, rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", ["list", "generator", "iterator", "weighted", "frames"])
def test_sources(case, how):
    X, mixture = case
    weight = np.linspace(0.0, 2.0, len(X)) if how == "weighted" else None
    cuts = np.split(X, [100, 100, 430])
    if how == "list":
        source = [part for part in cuts if len(part)]
    elif how == "generator":

        def source():
            yield from cuts

    elif how == "iterator":
        source = iter(cuts)
    elif how == "weighted":
        source = BlockRows(list(zip(cuts, np.split(weight, [100, 100, 430]))), weighted=True)
    else:
        pandas = pytest.importorskip("pandas")
        source = (pandas.DataFrame(part) for part in cuts)
    assert_same_sums(mixture.accumulate(source), mixture.accumulate(X, weight))


@given(cuts=st.lists(st.integers(0, 700), max_size=6), seed=st.integers(0, 9), kind=st.sampled_from(KINDS))
@settings(max_examples=25, deadline=None)
def test_any_parts_in_any_order(cuts, seed, kind):
    X, start = problem(5, 700, 3, 4, kind)
    mixture = mixture_of(kind, start)
    parts = [mixture.accumulate(part) for part in np.split(X, sorted(cuts))]
    order = np.random.default_rng(seed).permutation(len(parts))
    assert_same_sums(sum(parts[i] for i in order), mixture.accumulate(X))


def test_parts_without_rows_or_weight(case):
    X, mixture = case
    whole = mixture.accumulate(X)
    nothing = mixture.accumulate(X[:0])
    assert (nothing.n_rows, nothing.total_weight, nothing.pairs) == (0, 0.0, 0.0)
    for empty in (nothing, mixture.accumulate(iter(())), mixture.accumulate([X[:0]])):
        assert_same_bits(empty, nothing)
    assert_same_bits(nothing + whole, whole)
    assert_same_bits(whole + nothing, whole)
    weightless = mixture.accumulate(X[:50], np.zeros(50))
    assert weightless.n_rows == 50
    assert weightless.total_weight == 0
    blocks = BlockRows([(X[:50], np.zeros(50)), (X[50:], np.ones(650))], weighted=True)
    assert_same_sums(mixture.accumulate(blocks), weightless + mixture.accumulate(X[50:]))


def test_no_rows_are_about_the_points_that_others_are_about():
    """A sum that begins with an empty part must not move the moments of a tight cluster far off its mean."""
    X = 1e5 * np.array([[1.0], [-1.0]])[np.arange(200) % 2] + 1e-3 * np.random.default_rng(0).normal(
        size=(200, 1)
    )
    mixture = GaussianMixture.from_parameters([0.5, 0.5], [[-1e5], [1e5]], [1e-6, 1e-6], "spherical")
    whole = mixture.accumulate(X)
    np.testing.assert_array_equal(whole.reference, mixture.means_)
    assert_same_bits(mixture.accumulate(X[:0]) + whole, whole)
    weightless = mixture.accumulate(X[:9], np.zeros(9))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(weightless + whole, name), getattr(whole, name))


def test_threads_and_types_keep_the_bits(case):
    X, mixture = case
    rows = np.tile(X, (20, 1))
    one, two = (mixture.set_params(n_jobs=n).accumulate(rows) for n in (1, 2))
    assert_same_bits(one, two)
    single = rows.astype(np.float32)
    assert_same_bits(mixture.accumulate(single), mixture.accumulate(single.astype(np.float64)))


def test_attributes_are_read_anew(case):
    X, mixture = case
    before = mixture.accumulate(X)
    mixture.means_[0, 0] += 0.25
    after = mixture.accumulate(X)
    assert after.fingerprint != before.fingerprint
    assert after.log_likelihood != before.log_likelihood
    with pytest.raises(ValueError, match="different parameters"):
        before + after


def test_the_fingerprint_is_the_same_on_all_machines():
    mixture = GaussianMixture.from_parameters([0.25, 0.75], [[0.0], [2.0]], [[1.0], [4.0]], "diag")
    assert mixture.accumulate([[1.0]]).fingerprint.hex() == "6b581a4c69de210f8ee7be227682b4e9"
    other = GaussianMixture.from_parameters([0.25, 0.75], [[0.0], [2.0]], [1.0, 4.0], "spherical")
    assert other.accumulate([[1.0]]).fingerprint.hex() != "6b581a4c69de210f8ee7be227682b4e9"


def test_bad_rows(case):
    X, mixture = case
    with pytest.raises(ValueError, match="2 features, but GaussianMixture is expecting 3"):
        mixture.accumulate(X[:, :2])
    with pytest.raises(ValueError, match="2 features"):
        mixture.accumulate([X[:, :2]])
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        mixture.accumulate(bad, np.where(np.arange(len(X)) == 3, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"NaN or infinity.*row 3 of block 0, column 1"):
        mixture.accumulate(iter([bad]))
    with pytest.raises(ValueError, match="non-negative"):
        mixture.accumulate(X, -np.ones(len(X)))
    with pytest.raises(ValueError, match="largest weight"):
        mixture.accumulate(BlockRows([(X, np.full(len(X), 1e200))], weighted=True))
    bad[3, 1] = 1e200
    with pytest.raises(ValueError, match="so far from the mixture"):
        mixture.accumulate(bad)
    with pytest.raises(TypeError, match="sample_weight cannot be given"):
        mixture.accumulate(iter([X]), np.ones(len(X)))
    with pytest.raises(AttributeError, match="not fitted"):
        GaussianMixture(4).accumulate(X)


# ---- what statistics can do ------------------------------------------------------------------------------


def test_second_moments_are_symmetric(case):
    X, mixture = case
    rng = np.random.default_rng(0)
    statistics = mixture.accumulate(X)
    moved = statistics.about(statistics.reference + rng.normal(size=statistics.reference.shape))
    for each in (statistics, moved, moved + statistics, moved.scaled(0.3)):
        if each.structure in ("full", "tied"):
            np.testing.assert_array_equal(each.second, np.swapaxes(each.second, -1, -2))


def test_weights_are_repeats_and_scaled_is_a_factor(case):
    X, mixture = case
    counts = np.arange(len(X)) % 4
    repeated = mixture.accumulate(np.repeat(X, counts, axis=0))
    weighted = mixture.accumulate(X, counts)
    for name in ("weight", "first", "second", "log_likelihood", "total_weight"):
        a, b = np.asarray(getattr(repeated, name)), np.asarray(getattr(weighted, name))
        np.testing.assert_allclose(a, b, rtol=0, atol=SUM_RELATIVE * np.abs(a).max())
    one, other = copy.deepcopy(mixture), copy.deepcopy(mixture)
    one.update(weighted)
    other.update(weighted.scaled(0.125))
    assert other.lower_bound_ == pytest.approx(one.lower_bound_, rel=1e-14)
    np.testing.assert_allclose(one.means_, other.means_, rtol=1e-12)
    for factor in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="factor must be finite"):
            weighted.scaled(factor)


def test_sums_and_references_that_are_refused(case):
    X, mixture = case
    statistics = mixture.accumulate(X)
    assert_same_bits(0 + statistics, statistics)
    for other in (1, 0.5, None, "0"):
        with pytest.raises(TypeError):
            other + statistics
    with pytest.raises(ValueError, match="reference must hold"):
        statistics.about(np.zeros(3))
    with pytest.raises(ValueError, match="reference must hold"):
        statistics.about(np.full(statistics.reference.shape, np.nan))


# ---- between processes -----------------------------------------------------------------------------------


def test_round_trips_keep_the_bits(case, tmp_path):
    X, mixture = case
    statistics = mixture.accumulate(X, np.linspace(0, 1, len(X)))
    path = tmp_path / "statistics"
    statistics.save(path)
    content = statistics.to_bytes()
    assert path.read_bytes() == content
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert_same_bits(pickle.loads(pickle.dumps(statistics, protocol)), statistics)
    for again in (
        Statistics.load(path),
        Statistics.from_bytes(content),
        Statistics.from_bytes(memoryview(content)),
        Statistics.from_bytes(bytearray(content)),
        copy.deepcopy(statistics),
    ):
        assert_same_bits(again, statistics)
        assert_same_bits(again + again, statistics + statistics)
        assert again.second.flags.c_contiguous
    assert [file.name for file in tmp_path.iterdir()] == ["statistics"]


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_documentation(kind):
    K, D = 5, 30
    X, start = problem(1, 200, D, K, kind)
    statistics = mixture_of(kind, start).accumulate(X)
    size = {
        "full": K * (D * (D + 1) // 2 + 2 * D + 1) + 2 * D,
        "tied": K * (2 * D + 1) + D * (D + 1) // 2 + 2 * D,
        "diag": K * (3 * D + 1) + 2 * D,
        "spherical": K * (2 * D + 2) + 2 * D,
    }[kind] * 8
    assert 0 < len(statistics.to_bytes()) - size <= 2000
    assert 0 < len(pickle.dumps(statistics)) - size <= 1000


@pytest.fixture
def content(case):
    X, mixture = case
    return mixture.accumulate(X[:20]).to_bytes()


def test_every_truncation_is_refused(content, tmp_path):
    for length in range(len(content)):
        with pytest.raises(ValueError, match="not fastgmm statistics"):
            Statistics.from_bytes(content[:length])
    path = tmp_path / "statistics"
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="statistics is not a file of fastgmm statistics"):
            Statistics.load(path)


def test_flipped_bits_are_refused_or_do_not_matter(content):
    original = Statistics.from_bytes(content)
    rng = np.random.default_rng(0)
    n_refused = 0
    for place, bit in zip(rng.integers(0, len(content), 1500), rng.integers(0, 8, 1500)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        try:
            again = Statistics.from_bytes(bytes(damaged))
        except ValueError:
            n_refused += 1
        else:  # a date of the archive
            assert_same_bits(again, original)
    assert n_refused > 1000


def header(**changes):
    def change(members):
        entries = json.loads(members["header"].tobytes())
        entries.update(changes)
        members["header"] = np.frombuffer(json.dumps(entries).encode(), dtype=np.uint8)

    return change


def array(name, make):
    return lambda members: members.update({name: make(members[name].copy())})


FORGERIES = {
    "format": (header(format="fastgmm"), "of another program"),
    "version": (header(version=2), "format version is 2"),
    "another entry": (header(colour=1), "its header has the entries"),
    "structure": (header(structure="round"), "structure is 'round'"),
    "no structure": (header(structure=["full"]), "structure is"),
    "fingerprint": (header(fingerprint="xy"), "hexadecimal"),
    "no fingerprint": (header(fingerprint=7), "fingerprint is not text"),
    "rows": (header(n_rows=-1), "n_rows is not"),
    "true rows": (header(n_rows=True), "n_rows is not"),
    "weight of text": (header(total_weight="1"), "total_weight is '1'"),
    "weight": (header(total_weight=-1.0), "total_weight is negative"),
    "likelihood": (header(log_likelihood=float("nan")), "log_likelihood is nan"),
    "infinite likelihood": (header(log_likelihood=float("-inf")), "log_likelihood is -inf"),
    "no header": (lambda members: members.pop("header"), "header is missing"),
    "no first": (lambda members: members.pop("first"), "first is missing"),
    "more": (lambda members: members.update(more=np.zeros(2)), "unknown members"),
    "integers": (array("weight", lambda a: a.astype("<i8")), "weight has the type int64"),
    "objects": (array("weight", lambda a: a.astype(object)), "type|not"),
    "no components": (array("reference", lambda a: a[:0]), "reference has no rows"),
    "flat": (array("reference", lambda a: a.ravel()), "reference has no rows"),
    "fewer": (array("weight", lambda a: a[:-1]), "weight has the shape"),
    "wider": (array("first", lambda a: np.hstack([a, a])), "first has the shape"),
    "whole matrices": (array("second", lambda a: a.repeat(2, axis=-1)), "second has the shape"),
    "NaN": (array("second", lambda a: a * np.nan), "second contains NaN"),
    "infinite mean": (array("first", lambda a: a + np.inf), "first contains NaN or infinity"),
    "negative": (array("weight", lambda a: -a - 1), "weight is negative"),
    "no scale": (array("scale", lambda a: a * 0), "scale is not"),
    "odd scale": (array("scale", lambda a: a * 1.5), "scale is not"),
    "huge scale": (array("scale", lambda a: a * 0 + 2.0**600), "scale is not"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("covariance_type", ["tied"])
def test_forgeries_are_refused(content, tmp_path, forgery):
    path = tmp_path / "statistics"
    path.write_bytes(content)
    change, message = FORGERIES[forgery]
    with pytest.raises(ValueError, match=message):
        Statistics.load(rewritten(path, change))


@pytest.mark.parametrize("covariance_type", ["spherical"])
def test_spherical_has_one_scale(content, tmp_path):
    path = tmp_path / "statistics"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="scale is not one of a frame"):
        Statistics.load(rewritten(path, array("scale", lambda a: a * [1, 2, 1])))


@pytest.mark.parametrize("covariance_type", ["full"])
def test_files_of_other_things(case, tmp_path):
    X, mixture = case
    mixture.save(tmp_path / "mixture")
    with pytest.raises(ValueError, match="not a file of fastgmm statistics"):
        Statistics.load(tmp_path / "mixture")
    mixture.accumulate(X).save(tmp_path / "statistics")
    with pytest.raises(ValueError, match="not a valid fastgmm file"):
        GaussianMixture.load(tmp_path / "statistics")
    with pytest.raises(TypeError, match="content must be bytes, got str"):
        Statistics.from_bytes("text")
    with pytest.raises(FileNotFoundError):
        Statistics.load(tmp_path / "nothing")
    broken = copy.copy(mixture.accumulate(X))
    broken.__dict__["weight"] = broken.weight * np.nan
    with pytest.raises(ValueError, match="cannot be written: weight contains NaN"):
        broken.save(tmp_path / "statistics")
    Statistics.load(tmp_path / "statistics")


# ---- update ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loop_follows_fit(covariance_type, weighted):
    X, start = problem(3, 3000, 4, 3, covariance_type)
    weight = (np.arange(len(X)) * 7 % 5).astype(float) if weighted else None
    mixture = mixture_of(covariance_type, start, tol=0.0)
    fitted = quietly_fitted(X, covariance_type, start, weight, tol=0.0, max_iter=20)
    repeats = X if weight is None else np.repeat(X, weight.astype(int), axis=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.permutation(repeats)
        parts = np.split(rows, np.sort(rng.integers(0, len(rows), 4)))
        shipped = [Statistics.from_bytes(mixture.accumulate(part).to_bytes()) for part in parts]
        assert mixture.update(sum(shipped)) is False
    assert mixture.n_iter_ == 20
    np.testing.assert_allclose(mixture.lower_bounds_, fitted.lower_bounds_, rtol=FOLLOWS)
    assert mixture.lower_bound_ == mixture.lower_bounds_[-1]
    assert mixture.n_repairs_ == fitted.n_repairs_ == 0
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(mixture, name), getattr(fitted, name), rtol=0, atol=SAME_FIT)
    assert {len(values) for values in mixture.history_.values()} == {20}
    assert mixture.history_.keys() == fitted.history_.keys()
    assert mixture.history_["lower_bound"] == mixture.lower_bounds_


def test_it_converges_where_fit_does(covariance_type, tmp_path):
    """From a start found in a sample; a later fit goes on, and the mixture can be saved."""
    X = problem(3, 3000, 4, 3, covariance_type)[0]
    mixture = GaussianMixture(3, covariance_type=covariance_type, max_iter=0, random_state=0).fit(X[:500])
    assert (mixture.n_iter_, mixture.converged_, mixture.lower_bound_) == (0, False, -np.inf)
    start = mixture.weights_, mixture.means_, mixture.covariances_
    fitted = quietly_fitted(X, covariance_type, start)
    while not mixture.update(mixture.accumulate(X[:1000]) + mixture.accumulate(X[1000:])):
        assert mixture.converged_ is False
    assert mixture.converged_ is True
    assert mixture.n_iter_ == fitted.n_iter_ == len(mixture.lower_bounds_) > 2
    for name, kind in (("n_iter_", int), ("lower_bound_", float), ("converged_", bool), ("n_repairs_", int)):
        assert type(getattr(mixture, name)) is kind
    mixture.save(tmp_path / "mixture")
    assert_equal(GaussianMixture.load(tmp_path / "mixture"), mixture)
    assert_equal(pickle.loads(pickle.dumps(mixture)), mixture)
    # a warm start measures its first change from where the updates ended: here that is less than tol
    mixture.set_params(warm_start=True, max_iter=100).fit(X)
    assert mixture.n_iter_ == 1
    assert mixture.lower_bound_ >= fitted.lower_bound_


def test_updates_go_on_from_a_fit(case):
    X, mixture = case
    with pytest.warns(UserWarning, match="did not converge"):
        mixture.set_params(max_iter=3, tol=0.0, warm_start=True).fit(X)
    bounds, history = mixture.lower_bounds_, mixture.history_
    mixture.update(mixture.accumulate(X))
    assert mixture.n_iter_ == 4
    assert len(bounds) == len(history["pairs"]) == 3, "lists that were given out stay as they were"
    assert mixture.lower_bounds_[:3] == bounds
    assert {len(values) for values in mixture.history_.values()} == {4}
    assert mixture.history_["seconds_pass"][-1] == 0.0


def test_attributes_set_by_hand_are_enough(case):
    X, mixture = case
    bare = GaussianMixture(4, covariance_type=mixture.covariance_type)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(bare, name, getattr(mixture, name).copy())
    bare.update(bare.accumulate(X))
    mixture.update(mixture.accumulate(X))
    np.testing.assert_array_equal(bare.precisions_, mixture.precisions_)
    assert bare.lower_bounds_ == mixture.lower_bounds_
    assert bare.n_iter_ == 1


def test_what_update_refuses(case):
    X, mixture = case
    old = mixture.accumulate(X)
    mixture.update(old)
    now = mixture.accumulate(X)
    before = copy.deepcopy(vars(mixture))
    with pytest.raises(ValueError, match="made under other parameters"):
        mixture.update(old)
    with pytest.raises(ValueError, match="no rows of positive weight"):
        mixture.update(mixture.accumulate(X[:0]))
    with pytest.raises(ValueError, match="no rows of positive weight"):
        mixture.update(now.scaled(0))
    with pytest.raises(TypeError, match="statistics must be Statistics, got int"):
        mixture.update(sum([]))
    other = copy.copy(now)
    other.__dict__["structure"] = "other"
    with pytest.raises(ValueError, match="covariance_type='other'"):
        mixture.update(other)
    with pytest.raises(ValueError, match="'tol' parameter"):
        mixture.set_params(tol=-1).update(now)
    mixture.set_params(tol=1e-3)
    for name, value in before.items():
        np.testing.assert_equal(getattr(mixture, name), value)
    with pytest.raises(AttributeError, match="not fitted"):
        GaussianMixture(4, covariance_type=mixture.covariance_type).update(now)


# ---- components that cannot be used, or not be seen ------------------------------------------------------


def run_loop(X, mixture, limit=300):
    """Updates until one converges; how many, and how many warned."""
    n_warned = 0
    for n in range(1, limit):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            converged = mixture.update(mixture.accumulate(X[::2]) + mixture.accumulate(X[1::2]))
        assert all(warning.category is RepairWarning for warning in caught)
        n_warned += len(caught)
        if converged:
            return n, n_warned
    raise AssertionError("the loop does not end")


@pytest.mark.parametrize("constant", [7.3, 1e3 / 3])
@pytest.mark.parametrize("how", ["floor", "reseed"])
def test_a_constant_column_is_floored_once(covariance_type, how, constant):
    """And the floor does not follow the parameters down."""
    X, start = problem(2, 400, 3, 2, covariance_type)
    X = np.hstack([X, np.full((400, 1), constant)])
    weights, means, covariances = start
    means = np.hstack([means, [[constant], [constant]]])
    if covariance_type in ("full", "tied"):
        wider = np.zeros((*covariances.shape[:-2], 4, 4))
        wider[..., :3, :3], wider[..., 3, 3] = covariances, 1.0
    else:
        wider = np.hstack([covariances, np.ones((2, 1))]) if covariance_type == "diag" else covariances
    options = {"reg_covar": 0.0, "tol": 1e-8, "repair": how}
    fitted = quietly_fitted(X, covariance_type, (weights, means, wider), max_iter=300, **options)
    mixture = mixture_of(covariance_type, (weights, means, wider), **options)
    n, n_warned = run_loop(X, mixture)
    assert (n, mixture.n_repairs_) == (fitted.n_iter_, fitted.n_repairs_)
    assert n_warned == (covariance_type != "spherical")
    np.testing.assert_allclose(mixture.lower_bound_, fitted.lower_bound_, rtol=1e-9)
    np.testing.assert_allclose(mixture.covariances_, fitted.covariances_, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("constant", [1e3 / 3, -1e6 / 7])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_rounding_of_a_constant_is_no_covariance(covariance_type, constant):
    """Means of equal numbers are off by a rounding, which is no distance that could hide anything."""
    X, (weights, means, _) = problem(2, 400, 3, 2, covariance_type)
    X = np.hstack([X, np.full((400, 1), constant)])
    means = np.hstack([means, [[constant + 1.0], [constant - 1.0]]])
    unit = {"full": np.stack([np.eye(4)] * 2), "tied": np.eye(4), "diag": np.ones((2, 4))}[covariance_type]
    mixture = mixture_of(covariance_type, (weights, means, unit), reg_covar=0.0, repair="raise")
    with pytest.raises(DegenerateComponentError):
        run_loop(X, mixture)
    assert mixture.n_iter_ <= 3
    assert mixture.covariances_.min() > -1e-9


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_a_column_twice_ends_in_a_repair(covariance_type):
    """Nothing is hidden there by any distance, though the means have moved off the references."""
    X, (weights, means, _) = problem(2, 400, 3, 2, covariance_type)
    X, means = X[:, [0, 1, 2, 0]], means[:, [0, 1, 2, 0]]
    unit = {"full": np.stack([np.eye(4)] * 2), "tied": np.eye(4)}[covariance_type]
    mixture = mixture_of(covariance_type, (weights, means, unit), reg_covar=0.0, repair="raise")
    with pytest.raises(DegenerateComponentError):
        run_loop(X, mixture)


def test_components_of_no_weight_stay_as_they_are(covariance_type):
    X, (weights, means, covariances) = problem(2, 400, 3, 2, covariance_type)
    weights, means = np.append(weights, 0.0), np.vstack([means, [[50.0] * 3]])
    if covariance_type != "tied":
        covariances = np.concatenate([covariances, covariances[:1]])
    mixture = mixture_of(covariance_type, (weights, means, covariances))
    mixture.update(mixture.accumulate(X))  # a RepairWarning would be an error
    assert mixture.weights_[2] == 0
    np.testing.assert_array_equal(mixture.means_[2], means[2])


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_equal_rows_end_in_a_repair(covariance_type):
    X = np.vstack([problem(2, 400, 3, 2, covariance_type)[0], np.tile([1e3, 1e3, 1e3 / 3], (60, 1))])
    covariances = {"full": np.stack([np.eye(3)] * 2), "diag": np.ones((2, 3)), "spherical": np.ones(2)}
    covariances = (
        covariances[covariance_type]
        * 1e6
        / np.array([1e6, 1]).reshape(-1, *[1] * (covariances[covariance_type].ndim - 1))
    )
    start = np.array([0.5, 0.5]), np.array([[0.0, 0, 0], [900, 900, 300]]), covariances
    options = {"reg_covar": 0.0, "repair": "floor"}
    mixture = mixture_of(covariance_type, start, **options)
    fitted = quietly_fitted(X, covariance_type, start, max_iter=300, **options)
    assert run_loop(X, mixture)[1] == 1
    assert mixture.n_repairs_ == fitted.n_repairs_ == 1
    np.testing.assert_allclose(mixture.lower_bound_, fitted.lower_bound_, rtol=1e-6)
    raising = mixture_of(covariance_type, start, reg_covar=0.0, repair="raise")
    with pytest.raises(DegenerateComponentError, match=r"component\(s\) 1"):  # noqa: PT012
        while True:
            before = copy.deepcopy(vars(raising))
            raising.update(raising.accumulate(X))
    for name, value in before.items():
        np.testing.assert_equal(getattr(raising, name), value)


@pytest.mark.parametrize("spread", [1e-4, 1e-6])
@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_a_tight_cluster_far_away(covariance_type, spread, distance):
    """Broad at first, its covariance is lost in the distance; the next pass has to find it."""
    rng = np.random.default_rng(0)
    where = distance * np.array([1.0, -0.7, 0.9])
    near = [rng.normal(size=(800, 3)), rng.normal(6.0, 1.0, size=(400, 3))]
    X = rng.permutation(np.vstack([*near, where + spread * rng.normal(size=(200, 3))]))
    weights, means = np.full(3, 1 / 3), np.array([[-1.0] * 3, [7.0] * 3, 0.7 * where])
    broad = np.array([1.0, 1.0, distance**2])
    start = {
        "full": broad[:, None, None] * np.eye(3),
        "tied": np.eye(3) * distance**2,
        "diag": broad[:, None] * np.ones(3),
        "spherical": broad,
    }[covariance_type]
    options = {"reg_covar": 0.0, "tol": 1e-8}
    fitted = quietly_fitted(X, covariance_type, (weights, means, start), max_iter=300, **options)
    assert fitted.converged_
    mixture = mixture_of(covariance_type, (weights, means, start), **options)
    assert run_loop(X, mixture)[1] == 0
    assert mixture.lower_bound_ == pytest.approx(fitted.lower_bound_, abs=1e-6)
    for name in ("weights_", "means_"):
        np.testing.assert_allclose(getattr(mixture, name), getattr(fitted, name), rtol=1e-6)
    scale = np.abs(fitted.covariances_).max(axis=tuple(range(1, start.ndim)), keepdims=True)
    np.testing.assert_allclose(mixture.covariances_ / scale, fitted.covariances_ / scale, atol=1e-4)


def test_a_hidden_cluster_is_no_convergence():
    """Nothing has changed, and yet the next pass will find another covariance."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(500, 2)), 1e5 + 1e-4 * rng.normal(size=(100, 2))])
    start = (
        np.array([5 / 6, 1 / 6]),
        np.array([[0.0, 0.0], [9e4, 9e4]]),
        np.array([np.eye(2), 1e10 * np.eye(2)]),
    )
    mixture = mixture_of("full", start, reg_covar=0.0)
    mixture.lower_bound_ = mixture.score(X)
    assert mixture.update(mixture.accumulate(X)) is False
    assert mixture.history_["lower_bound"][-1] == pytest.approx(mixture.lower_bound_)
    assert mixture.covariances_[1, 0, 0] > 1e-6
    mixture.update(mixture.accumulate(X))
    assert mixture.covariances_[1, 0, 0] == pytest.approx(1e-8, rel=0.5)


@pytest.fixture
def equal_rows():
    """Statistics of equal rows about a point one rounding off them, and what an M-step makes of them."""
    mixture = GaussianMixture.from_parameters([1.0], [[1e3 / 3]], [[1.0]], "diag")
    statistics = mixture.accumulate(np.full((10, 1), 1e3 / 3))
    statistics = statistics.about([[np.nextafter(1e3 / 3, 1e3)]])
    with np.errstate(divide="ignore"):
        return statistics, STRUCTURES["diag"].estimate(statistics, 0.0, 1)


def test_a_distance_of_roundings_hides_nothing(equal_rows):
    statistics, estimate = equal_rows
    assert estimate.singular.all()
    assert statistics.first[0, 0] < 0
    broadened, which = broaden(estimate, statistics, STRUCTURES["diag"])
    assert not which.any()
    assert broadened.singular.all()


def test_roundings_are_no_spread_of_the_data(equal_rows):
    statistics, estimate = equal_rows
    parameters = estimate.parameters
    two = parameters._replace(
        weights=np.array([0.5, 0.5]),
        means=np.vstack([parameters.means, np.nextafter(parameters.means, 1e3)]),
    )
    twice = replace(
        statistics, weight=np.ones(2), first=np.zeros((2, 1)), second=np.zeros((2, 1)), reference=two.means
    )
    frame = frame_of_rows(estimate._replace(parameters=two), twice, STRUCTURES["diag"])
    np.testing.assert_array_equal(frame.scale, 1.0)
