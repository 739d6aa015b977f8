"""Fits in float32 arithmetic beside those in float64: how near, where float64 takes over, what else stays."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from running import assert_same_bits, forced_pruning, parameters_of, run_em
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture, single
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions, run
from fastgmm.structures import STRUCTURES

ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_cholesky_")


def quiet_fit(X, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GaussianMixture(**params).fit(X)


def share(result, first=0) -> float:
    """Of pairs in single precision, from an iteration on."""
    return sum(result.history["pairs_single"][first:]) / sum(result.history["pairs"][first:])


def both(X, kind, start, n_iter, **options):
    """The run in float64 and the one in float32, from one start."""
    return [run_em(X, kind, start, n_iter, arithmetic=a, **options) for a in ("float64", "float32")]


def assert_near(kind, double, result):
    """The last bound and the parameters; on the way, where parameters are far off, errors count in full."""
    scale = np.maximum(1.0, np.abs(double.lower_bounds))
    difference = np.abs(np.subtract(result.lower_bounds, double.lower_bounds)) / scale
    assert difference[-1] <= tolerances.SINGLE_BOUND
    assert difference.max() <= tolerances.SINGLE_STEP
    model = oracle.stored_model(kind, double.parameters)
    assert oracle.difference(model, result.parameters) <= tolerances.SINGLE_STEP


# ---- how near --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["never", "always"])
@pytest.mark.parametrize(("n_features", "n_components"), [(2, 5), (3, 20), (16, 7), (33, 4)])
def test_twenty_iterations(covariance_type, choice, n_features, n_components):
    X, start = datasets.problem(5, 12_000, n_features, n_components, covariance_type, 3.0)
    with forced_pruning(choice):
        double, result = both(X.astype(np.float32), covariance_type, start, 20)
    # the first pass adds up the scatter that tied covariances share
    assert share(result, first=int(covariance_type == "tied")) > 0.99
    assert_near(covariance_type, double, result)


def test_weights(covariance_type):
    X, start = datasets.problem(6, 9_000, 4, 5, covariance_type, 3.0)
    weights = np.random.default_rng(0).uniform(0, 3, len(X))
    weights[::7] = 0.0
    X = X.astype(np.float32)
    double, result = both(X, covariance_type, start, 10, sample_weight=weights)
    assert share(result, first=int(covariance_type == "tied")) > 0.85
    assert_near(covariance_type, double, result)
    X[::7] = 1e30  # rows of weight zero are not read
    assert_same_bits(result, both(X, covariance_type, start, 10, sample_weight=weights)[1])


def test_acceleration_and_starts(covariance_type):
    X, _ = datasets.problem(6, 5_000, 4, 3, covariance_type, 4.0)
    X = X.astype(np.float32)
    for params in ({"acceleration": "anderson"}, {"n_init": 4, "max_iter": 60}):
        fits = [
            quiet_fit(
                X, n_components=3, covariance_type=covariance_type, random_state=0, arithmetic=a, **params
            )
            for a in ("float64", "float32")
        ]
        assert fits[0].score(X) == pytest.approx(fits[1].score(X), rel=1e-5)  # they stop at tol = 1e-3
        assert sum(fits[1].history_["pairs_single"]) > 0


def test_warm_start(covariance_type):
    X, _ = datasets.problem(6, 5_000, 3, 3, covariance_type, 4.0)
    X = X.astype(np.float32)
    kind = {"n_components": 3, "covariance_type": covariance_type, "tol": 0.0, "arithmetic": "float32"}
    whole = quiet_fit(X, max_iter=6, random_state=0, **kind)
    parts = GaussianMixture(max_iter=3, random_state=0, warm_start=True, **kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts.fit(X).fit(X)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-4, atol=1e-5)


# ---- where float64 takes over ----------------------------------------------------------------------------


def outliers(kind):
    """Clusters, and a few rows a million standard deviations away."""
    X, start = datasets.problem(7, 6_000, 3, 4, kind, 4.0)
    X = X.copy()
    X[::2000] *= 1e6
    return X.astype(np.float32), start


def near_singular(kind):
    """One of three components is a needle: its correlations are 1 but for 1e-6."""
    X, (_, means, covariances) = datasets.problem(8, 6_000, 4, 3, "full", 30.0)
    rng = np.random.default_rng(0)
    needle = rng.standard_normal((600, 1)) * np.ones(4) + 1e-3 * rng.standard_normal((600, 4))
    X = np.concatenate([X, needle + means[2] + 100.0]).astype(np.float32)
    covariances = np.concatenate([covariances, covariances[:1]])
    means = np.concatenate([means, means[2:] + 100.0])
    start = np.full(4, 0.25), means, covariances
    return X, start


def tight_and_far(kind):
    """Two clusters of spread 1e-4, and 1 apart; their expansion about the origin has no digits in float32."""
    rng = np.random.default_rng(3)
    X = np.concatenate([rng.standard_normal((3_000, 2)) * 1e-4 + centre for centre in ([0.0, 0], [1.0, 1])])
    shape = {
        "full": np.stack([np.eye(2)] * 2),
        "tied": np.eye(2),
        "diag": np.ones((2, 2)),
        "spherical": np.ones(2),
    }
    return X.astype(np.float32), (np.full(2, 0.5), np.array([[0.1, 0.0], [0.8, 1.0]]), 0.1 * shape[kind])


@pytest.mark.parametrize("choice", ["never", "always"])
def test_outliers(covariance_type, choice):
    X, start = outliers(covariance_type)
    with forced_pruning(choice):
        double, result = both(X, covariance_type, start, 25, reg_covar=1e-3)
    assert 0.0 < share(result) < 1.0
    assert_near(covariance_type, double, result)


@pytest.mark.parametrize("choice", ["never", "always"])
def test_a_needle(choice):
    X, start = near_singular("full")
    with forced_pruning(choice):
        double, result = both(X, "full", start, 10, reg_covar=0.0)
    assert 0.5 < share(result) < 1.0, "the other components' blocks are in single precision"
    assert_near("full", double, result)


def test_tight_clusters_far_apart(covariance_type):
    X, start = tight_and_far(covariance_type)
    double, result = both(X, covariance_type, start, 8, reg_covar=0.0)
    assert share(result) > 0.5
    assert result.history["pairs_centred"][-1] > 0
    assert_near(covariance_type, double, result)


def test_far_from_the_origin(covariance_type):
    """The rows' own origin does not matter, as long as float32 has digits for them."""
    X, start = datasets.problem(9, 4_000, 3, 3, covariance_type, 3.0)
    X = (X + 1e4).astype(np.float32)
    start = (start[0], start[1] + 1e4, start[2])
    double, result = both(X, covariance_type, start, 10)
    assert share(result) >= 0.9
    assert_near(covariance_type, double, result)


@pytest.mark.parametrize("scale", [1e-35, 1e35])
def test_ends_of_the_range(covariance_type, scale):
    X, start = datasets.problem(9, 3_000, 2, 3, covariance_type, 3.0)
    X = (X * scale).astype(np.float32)
    start = (start[0], start[1] * scale, np.asarray(start[2]) * scale**2)
    double, result = both(X, covariance_type, start, 3, reg_covar=0.0)
    assert share(result) == 0.0
    assert_same_bits(double, result)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_weights_beyond_its_range(covariance_type, factor):
    X, start = datasets.problem(9, 3_000, 2, 3, covariance_type, 3.0)
    weights = np.full(len(X), factor)
    double, result = both(X.astype(np.float32), covariance_type, start, 3, sample_weight=weights)
    assert share(result) == 0.0
    assert_same_bits(double, result)


def without_float64(monkeypatch):
    """Single precision for every block and component, good enough or not."""
    original = single.single_map

    def careless(*arguments):
        result = original(*arguments)
        if result is not None:
            result.largest_reach = result.largest_error = result.largest_roughness = np.inf
        return result

    monkeypatch.setattr(single, "LARGEST_SHARE", 2.0)
    monkeypatch.setattr(single, "single_map", careless)
    monkeypatch.setattr(single, "came_out_rough", lambda *_: False)
    monkeypatch.setattr(single, "NOISE", 0.0)


@pytest.mark.parametrize("make", [outliers, near_singular])
def test_float64_is_needed(monkeypatch, make):
    """The tests above would fail without it."""
    X, start = make("full")
    double = run_em(X, "full", start, 6, reg_covar=0.0)
    without_float64(monkeypatch)
    result = run_em(X, "full", start, 6, reg_covar=0.0, arithmetic="float32")
    assert share(result) == 1.0
    with pytest.raises(AssertionError):
        assert_near("full", double, result)


# ---- what else stays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_default_is_float64(covariance_type, dtype):
    """float64 rows never take float32; float32 rows only if asked."""
    X, _ = datasets.problem(2, 2_000, 3, 4, covariance_type, 3.0)
    X = X.astype(np.float32)
    kind = {"n_components": 4, "covariance_type": covariance_type, "random_state": 0}
    asked = "float32" if dtype == np.float64 else "float64"
    reference, same = quiet_fit(X, **kind), quiet_fit(X.astype(dtype), arithmetic=asked, **kind)
    for name in ATTRIBUTES:
        assert getattr(reference, name).tobytes() == getattr(same, name).tobytes()
    assert sum(same.history_["pairs_single"]) == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("choice", ["never", "always"])
def test_threads(covariance_type, choice, weighted):
    X, start = datasets.problem(3, 60_001, 4, 6, covariance_type, 2.0)
    X = X.astype(np.float32)
    X[::9001] *= np.float32(1e4)  # some blocks are done in float64
    weights = np.random.default_rng(0).uniform(0, 2, len(X)) if weighted else None
    options = {"sample_weight": weights, "arithmetic": "float32"}
    with forced_pruning(choice):
        reference = run_em(X, covariance_type, start, 4, n_threads=1, **options)
        assert 0 < share(reference) < 1
        for n_threads in (2, 3, 8):
            assert_same_bits(reference, run_em(X, covariance_type, start, 4, n_threads=n_threads, **options))


def test_pruned_and_dense_are_near(covariance_type):
    X, start = datasets.problem(4, 20_000, 3, 12, covariance_type, 12.0)
    results = []
    for choice in ("never", "always"):
        with forced_pruning(choice):
            results.append(run_em(X.astype(np.float32), covariance_type, start, 8, arithmetic="float32"))
    n_blocks = -(-20_000 // 96)
    assert sum(results[1].history["pairs"]) < 0.5 * 8 * 12 * n_blocks
    assert_near(covariance_type, *results)


def test_instruction_sets(isa, covariance_type):
    X, start = datasets.problem(4, 3_000, 5, 4, covariance_type, 3.0)
    double, result = both(X.astype(np.float32), covariance_type, start, 8)
    assert_near(covariance_type, double, result)


def test_persistence(tmp_path, covariance_type):
    X, _ = datasets.problem(2, 2_000, 3, 4, covariance_type, 3.0)
    mixture = quiet_fit(
        X.astype(np.float32),
        n_components=4,
        covariance_type=covariance_type,
        arithmetic="float32",
        random_state=0,
    )
    mixture.save(tmp_path / "mixture.npz")
    loaded = GaussianMixture.load(tmp_path / "mixture.npz")
    assert loaded.get_params() == mixture.get_params()
    assert loaded.history_ == mixture.history_
    theirs = mixture.to_sklearn()
    assert not hasattr(theirs, "arithmetic")
    assert GaussianMixture.from_sklearn(theirs).arithmetic == "float64"
    assert GaussianMixture.from_sklearn(theirs, arithmetic="float32").arithmetic == "float32"


def test_starts_are_the_same(covariance_type):
    X, _ = datasets.problem(2, 3_000, 3, 4, covariance_type, 3.0)
    kind = {"n_components": 4, "covariance_type": covariance_type, "random_state": 0, "max_iter": 0}
    starts = [quiet_fit(X.astype(np.float32), arithmetic=a, **kind) for a in ("float64", "float32")]
    for name in ATTRIBUTES:
        assert getattr(starts[0], name).tobytes() == getattr(starts[1], name).tobytes()


def test_a_component_of_no_weight(covariance_type):
    X, (_, means, covariances) = datasets.problem(2, 3_000, 3, 4, covariance_type, 3.0)
    start = np.array([0.5, 0.25, 0.25, 0.0]), means, covariances
    double, result = both(X.astype(np.float32), covariance_type, start, 4)
    assert result.parameters.weights[3] == 0.0
    assert share(result) > 0.7
    np.testing.assert_allclose(result.lower_bounds, double.lower_bounds, rtol=tolerances.SINGLE_BOUND)


def test_passes_that_gain_little_are_followed_by_double_ones(monkeypatch):
    """float32 is tried, found to have helped too little, left alone for REST passes and tried again."""
    monkeypatch.setattr(single, "SMALLEST_GAIN", 1.1)  # no pass does as well
    X, start = datasets.problem(2, 2_000, 5, 4, "full", 30.0)
    X = X.astype(np.float32)
    result = run_em(X, "full", start, 2 * single.REST + 2, tol=0.0, arithmetic="float32")
    tried = [count > 0 for count in result.history["pairs_single"]]
    assert tried == ([True] + [False] * single.REST) * 2


def test_wrong_arithmetic():
    with pytest.raises(ValueError, match="arithmetic"):
        GaussianMixture(arithmetic="float16").fit(np.zeros((4, 1)))


def test_offsets_make_means_exact(covariance_type):
    """Rounded coefficients have the right score at each mean, so that nothing common to all rows is left."""
    X, start = datasets.problem(2, 2_000, 5, 4, covariance_type, 30.0)
    structure = STRUCTURES[covariance_type]
    parameters = parameters_of(covariance_type, start)
    frame = ArrayData(X).frame(1, structure.common_scale)
    score_map = structure.score_map(parameters, frame, 1)
    rounded = single.single_map(score_map, parameters, structure, frame, len(X))
    mean = frame.to_frame(parameters.means)
    features = {
        "full": [mean, np.einsum("ki,kj->kij", mean, mean)[:, *np.triu_indices(5)]],
        "tied": [mean],
        "diag": [mean, mean**2],
        "spherical": [mean, (mean**2).sum(1, keepdims=True)],
    }
    offset = rounded.offset.astype(float) + rounded.offset_low + rounded.base
    scores = offset + (rounded.coef * np.concatenate(features[covariance_type], axis=1)).sum(axis=1)
    if rounded.common_root is not None:
        scores -= 0.5 * ((mean @ rounded.common_root.T.astype(float)) ** 2).sum(axis=1)
    np.testing.assert_allclose(scores, score_map.constant, rtol=1e-9)


def needles(seed, noise):
    """float32 rows along a line, but for noise of this share, in two dimensions."""
    rng = np.random.default_rng(seed)
    t = rng.standard_normal(20_000)
    return np.column_stack([t, t + noise * rng.standard_normal(t.size)]).astype(np.float32)


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("seed", [0, 1])
def test_narrow_components_found_from_broad_ones(noise, seed):
    """Broad parameters allow float32, the covariances that come of them may not: sums are taken again."""
    X = needles(seed, noise)
    means = X[:2].astype(np.float64)
    weights = np.array([0.5, 0.5])
    start = weights, means, np.stack([np.eye(2)] * 2)
    double, result = both(X, "full", start, 6, reg_covar=0.0)
    assert result.n_repairs == double.n_repairs == 0
    np.testing.assert_allclose(result.lower_bounds, double.lower_bounds, rtol=1e-5, atol=1e-5)


def test_a_warm_start_on_rows_of_another_kind():
    broad = (1000 * np.random.default_rng(0).standard_normal((20_000, 2))).astype(np.float32)
    bounds = []
    for arithmetic in ("float64", "float32"):
        mixture = quiet_fit(
            broad, n_components=2, warm_start=True, random_state=0, max_iter=5, tol=0.0, arithmetic=arithmetic
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            bounds.append(mixture.fit(1000 * needles(1, 2e-5)).lower_bounds_)
        assert mixture.n_repairs_ == 0
    np.testing.assert_allclose(*bounds, rtol=1e-4)


@pytest.mark.parametrize("acceleration", [None, "anderson"])
def test_what_is_left_to_gain_is_gained_in_float64(covariance_type, acceleration):
    """float32 bounds have a floor of noise: below it passes are in float64, and fits converge as there."""
    X, start = datasets.problem(3, 20_000, 4, 5, covariance_type, 1.5)
    double, result = (
        run(
            ArrayData(X.astype(np.float32)),
            STRUCTURES[covariance_type],
            parameters_of(covariance_type, start),
            EMOptions(tol=1e-9, max_iter=2000, acceleration=acceleration, arithmetic=arithmetic),
        )
        for arithmetic in ("float64", "float32")
    )
    assert double.converged
    assert result.converged
    assert result.lower_bound == pytest.approx(double.lower_bound, abs=1e-6)
    pairs, in_single = (np.array(result.history[name]) for name in ("pairs", "pairs_single"))
    assert in_single[1] == pairs[1]
    assert in_single[-1] == 0
    assert np.flatnonzero(in_single).max() < 0.9 * result.n_iter
