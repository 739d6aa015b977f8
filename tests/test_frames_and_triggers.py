"""Frames of awkward data, and what sets off a repair or holds up convergence."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import tolerances
from running import parameters_of, run_em

from fastgmm import DegenerateComponentError, GaussianMixture, RepairWarning
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions, run
from fastgmm.structures import STRUCTURES


def exact_moments(X, weight=None):
    """Weighted mean and standard deviation per feature, in longdouble about the middle."""
    X = oracle.real(X)
    share = oracle.row_weights(X, weight)
    share = share / share.sum()
    mean = (share[:, None] * X).sum(axis=0)
    return mean, np.sqrt((share[:, None] * (X - mean) ** 2).sum(axis=0))


def assert_frame_fits(frame, mean, spread, tolerance=1e-3):
    """The origin at the mean, to a share of the spread, and a spread between 1/2 and 1.

    1e-3 is far more than a frame needs: an offset costs digits only from 1e3 standard deviations on. Where a
    scale is half of what it could be, the spread was a rounding above a power of two.
    """
    assert np.isfinite(frame.shift).all()
    assert np.isfinite(frame.scale).all()
    assert np.all(np.abs(frame.shift - mean) <= tolerance * spread + 4 * tolerances.EPS * np.abs(mean))
    scaled = (spread * frame.scale).astype(float)
    assert np.all((scaled >= 0.5 - tolerance) & (scaled < 1.0 + tolerance)), scaled


# -- frames ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [1e4, 1e6, 1e9])
@pytest.mark.parametrize("weighted", [False, True])
def test_frame_of_rows_whose_first_are_far_away(far, weighted):
    """Whatever a first look sees, the frame is that of all rows by weight."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3)) * [1.0, 100.0, 1e-3]
    X[:50] += far
    weight = rng.uniform(0.5, 2.0, 2000) if weighted else None
    assert_frame_fits(ArrayData(X, weight).frame(1), *exact_moments(X, weight))


@pytest.mark.parametrize("far", [1e5, 1e9, 1e11])
def test_frame_of_heavy_rows_far_from_all_others(far):
    """Almost all rows lie close together, weigh next to nothing, and tell nothing about the rest.

    In units of their own spread the heavy rows are at 1e8 to 1e14, where squares of the coordinates keep few
    digits of the heavy rows' spread, or none: the frame has to be measured once more.
    """
    rng = np.random.default_rng(1)
    X = 1e-3 * rng.standard_normal((2048, 2))
    weight = np.full(2048, 1e-40)
    heavy = np.arange(1001, 1101, 2)  # off any even spacing from the first row on
    X[heavy] = far * np.array([1.0, -1.0]) + rng.standard_normal((50, 2)) * [30.0, 0.01]
    weight[heavy] = rng.uniform(0.5, 2.0, 50)
    assert_frame_fits(ArrayData(X, weight).frame(1), *exact_moments(X, weight))


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_fit_to_heavy_rows_far_from_all_others(kind):
    """EM on such data is EM on the heavy rows."""
    rng = np.random.default_rng(2)
    heavy = np.arange(1001, 1401, 2)
    X = 1e-3 * rng.standard_normal((2048, 2))
    X[heavy] = 1e9 + rng.standard_normal((200, 2)) + np.repeat([[-4.0], [4.0]], 100, axis=0)
    weight = np.full(2048, 1e-40)
    weight[heavy] = 1.0
    covariances = np.ones((2, 2)) if kind == "diag" else np.stack([np.eye(2)] * 2)
    start = np.full(2, 0.5), 1e9 + np.array([[-4.0, -4.0], [4.0, 4.0]]), covariances
    everything = run_em(X, kind, start, 3, sample_weight=weight)
    exact, _ = oracle.em(X[heavy], oracle.make_model(kind, *start), 3, 1e-6)
    # means are stored to eps * 1e9 = 2e-7 of a standard deviation
    assert oracle.difference(exact, everything.parameters) <= 4 * tolerances.EPS * 1e9
    assert everything.n_repairs == 0


@pytest.mark.parametrize("unit", [1e60, 1e150])
def test_frame_of_rows_whose_squares_overflow_beside_the_first(unit):
    """In units of the rows seen first, 1e-200, the squares of most others have no double."""
    rng = np.random.default_rng(3)
    X = unit * (rng.standard_normal((1024, 2)) + 3.0)
    X[::4] = 1e-200 * rng.standard_normal((256, 2))
    assert_frame_fits(ArrayData(X).frame(1), *exact_moments(X))
    assert_frame_fits(ArrayData(X).frame(1, common_scale=True), *common_spread(X))


def common_spread(X):
    mean, spread = exact_moments(X)
    return mean, np.full(spread.shape, spread.max())


def test_fit_to_rows_whose_squares_overflow_beside_the_first(covariance_type):
    """The same fit, in another unit, as beside rows of 0, which they are to all digits."""
    unit = 2.0**200  # exact
    rng = np.random.default_rng(4)
    X = rng.standard_normal((1024, 2)) + np.where(np.arange(1024) % 2, 3.0, -3.0)[:, None]
    X[::4] = 0.0
    means = np.array([[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]])
    covariances = {
        "full": np.stack([np.eye(2)] * 3),
        "tied": np.eye(2),
        "diag": np.ones((3, 2)),
        "spherical": np.ones(3),
    }[covariance_type]
    weights = np.full(3, 1 / 3)
    first = run_em(X, covariance_type, (weights, means, covariances), 2, reg_covar=0.0)
    rows = unit * X
    rows[::4] = 1e-200 * rng.standard_normal((256, 2))
    second = run_em(rows, covariance_type, (weights, unit * means, unit**2 * covariances), 2, reg_covar=0.0)
    back = second.parameters
    reference = oracle.stored_model(covariance_type, first.parameters)
    found = back.weights, back.means / unit, back.covariances / unit**2
    assert oracle.difference(reference, found) <= tolerances.SAME_FIT
    assert second.n_repairs == 0


# -- convergence -------------------------------------------------------------------------------------


def collapsing(kind):
    """Three components of which the last has one row for itself, far from all others."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((200, 2)) + np.repeat([[-3.0], [3.0]], 100, axis=0)
    X[-1] = 1e3
    means = np.array([[-3.0, -3.0], [3.0, 3.0], [1e3, 1e3]])
    covariances = {"full": np.stack([np.eye(2)] * 3), "diag": np.ones((3, 2)), "spherical": np.ones(3)}
    return X, (np.full(3, 1 / 3), means, covariances[kind])


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("repair", ["reseed", "floor"])
def test_an_iteration_that_repaired_is_not_the_last(kind, repair):
    """However little the bound changed: it is that of the parameters before the repair."""
    X, start = collapsing(kind)
    seen = []
    result = run(
        ArrayData(X),
        STRUCTURES[kind],
        parameters_of(kind, start),
        EMOptions(tol=1e9, reg_covar=0.0, repair=repair),
        previous_bound=0.0,
        on_iteration=lambda iteration, bound, change, converged: seen.append((change, converged)),
    )
    repairs = result.history["repairs"]
    assert repairs[0] > 0
    assert all(abs(change) < 1e9 for change, _ in seen)
    # every change is within the tolerance, so that the first iteration without a repair is the last
    assert [converged for _, converged in seen] == [not n for n in repairs]
    assert repairs.index(0) == len(repairs) - 1
    assert result.converged
    assert result.n_iter == len(repairs) >= 2


def test_a_warm_start_that_repaired_goes_on():
    """The same through the estimator: a second fit starts from a bound that may be near its first."""
    X, (weights, means, covariances) = collapsing("full")
    mixture = GaussianMixture(
        3, reg_covar=0.0, tol=1e9, warm_start=True, weights_init=weights, means_init=means,
        precisions_init=covariances,
    )  # fmt: skip
    healthy = np.concatenate([X[:-1], 1e3 + np.random.default_rng(6).standard_normal((50, 2))])
    mixture.fit(healthy)
    assert mixture.n_repairs_ == 0
    with pytest.warns(RepairWarning):
        mixture.fit(X)
    assert mixture.history_["repairs"][0] == 1
    assert mixture.n_iter_ >= 2
    assert mixture.converged_


# -- singular to working precision -------------------------------------------------------------------


def nearly_a_line(thickness):
    """Rows on a line but for +- thickness in the second feature; with a power of two, all sums are exact.

    The covariance is [[1, 1], [1, 1 + thickness^2]].
    """
    return np.array(
        [
            [1.0, 1.0 + thickness],
            [1.0, 1.0 - thickness],
            [-1.0, -1.0 + thickness],
            [-1.0, -1.0 - thickness],
        ]
    )


ONE_COMPONENT = {
    "full": (np.ones(1), np.zeros((1, 2)), np.eye(2)[None]),
    "tied": (np.ones(1), np.zeros((1, 2)), np.eye(2)),
}


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_a_covariance_singular_to_working_precision_is_repaired(kind):
    """It has a Cholesky factor, whose last entry is what rounding leaves."""
    X = nearly_a_line(2.0**-26)
    covariance = X.T @ X / 4
    assert covariance[1, 1] - 1.0 == tolerances.EPS
    np.linalg.cholesky(covariance)  # the premise: this is no error
    result = run_em(X, kind, ONE_COMPONENT[kind], 1, reg_covar=0.0)
    assert result.n_repairs == 1
    found = result.parameters.covariances.reshape(2, 2)
    correlation = found[0, 1] / np.sqrt(found[0, 0] * found[1, 1])
    # a repaired correlation matrix has eigenvalues in the ratio of 1e-12 at least (structures/base.py: FLOOR)
    assert 1.0 - correlation > 5e-13
    with pytest.raises(DegenerateComponentError, match=r"\b0\b.*singular"):
        run_em(X, kind, ONE_COMPONENT[kind], 1, reg_covar=0.0, repair="raise")


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_a_covariance_with_a_few_digits_left_is_not(kind):
    """Of condition 1e13, and as exact as the sums are."""
    X = nearly_a_line(2.0**-21)
    result = run_em(X, kind, ONE_COMPONENT[kind], 1, reg_covar=0.0, repair="raise")
    np.testing.assert_array_equal(result.parameters.covariances.reshape(2, 2), X.T @ X / 4)


def tiny_square(half_width):
    """Four corners about the origin, and their mirror images in no axis but both."""
    return half_width * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


def beside_wide_rows(half_width):
    """A tiny square between wide rows, for two components about (1, 1); the data's spread is about 1."""
    X = 1.0 + np.concatenate([tiny_square(half_width), tiny_square(2.0), tiny_square(1.0)])
    variances = np.array([half_width**2, 2.0])
    return X, (np.full(2, 0.5), np.ones((2, 2)), variances)


def shaped(kind, start):
    weights, means, variances = start
    covariances = {
        "full": variances[:, None, None] * np.eye(2),
        "diag": np.repeat(variances[:, None], 2, axis=1),
        "spherical": variances,
    }
    return weights, means, covariances[kind]


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("repair", ["reseed", "floor"])
def test_a_spread_of_roundings_is_repaired(kind, repair):
    """Rows within 2^-52 of (1, 1), whose last digit that is: positive variances, of roundings.

    They are perfectly round, so that no other test of the covariance finds fault with them.
    """
    X, start = beside_wide_rows(2.0**-52)
    result = run_em(X, kind, shaped(kind, start), 1, reg_covar=0.0, repair=repair)
    assert result.repaired == (0,)
    assert result.n_repairs == 1
    # a repaired component keeps at least 1e-12 of the data's variance (structures/base.py: FLOOR)
    matrix = oracle.covariance_matrix(kind, result.parameters.covariances, 0, 2).astype(float)
    assert np.linalg.eigvalsh(matrix).min() > 1e-13


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_small_spread_is_legal(kind):
    """Rows within 2^-40 of each other are a cluster like any other."""
    half_width = 2.0**-40
    X, start = beside_wide_rows(half_width)
    result = run_em(X, kind, shaped(kind, start), 1, reg_covar=0.0, repair="raise")
    exact = oracle.em_step(X, oracle.make_model(kind, *shaped(kind, start)))
    # the wide component's share of the four rows is 1e-24, and so is what it adds to their variance
    assert oracle.difference(exact, result.parameters) <= tolerances.STEP_WHITENED


@pytest.mark.parametrize("repair", ["reseed", "floor"])
def test_a_shared_spread_of_roundings_is_repaired(repair):
    """Tied: two clusters of rows within 2^-52 of their means, which are 2 apart."""
    X = np.concatenate([1.0 + tiny_square(2.0**-52), -1.0 + tiny_square(2.0**-52)])
    start = np.full(2, 0.5), np.array([[1.0, 1.0], [-1.0, -1.0]]), np.eye(2) * 1e-2
    result = run_em(X, "tied", start, 1, reg_covar=0.0, repair=repair)
    assert result.repaired == (0, 1)
    assert np.linalg.eigvalsh(result.parameters.covariances).min() > 1e-13
    wider = np.concatenate([1.0 + tiny_square(2.0**-40), -1.0 + tiny_square(2.0**-40)])
    assert run_em(wider, "tied", start, 1, reg_covar=0.0, repair="raise").n_repairs == 0
