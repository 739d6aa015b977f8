"""The first half of EM by hand: accumulate and sum; Statistics as objects, bytes and files."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from datasets import problem
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_files import rewritten
from tolerances import SUM_RELATIVE

from fastgmm import BlockRows, GaussianMixture, Statistics

KINDS = ("full", "tied", "diag", "spherical")
ARRAYS = ("reference", "weight", "first", "second")
SUMS = ("log_likelihood", "log_max_responsibility", "total_weight", "pairs", "pairs_centred", "n_rows")


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
    with pytest.raises(ValueError, match=r"contains NaN: .* row 3 of block 0, column 1"):
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
    "version": (header(version=3), "format version is 3"),
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
