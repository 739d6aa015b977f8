"""Starts: what each of them looks at, what weights mean to it, and which draws it makes.

With ``max_iter=0`` the fitted parameters are those of the start.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import tolerances
from running import parameters_of

from fastgmm import GaussianMixture, RepairWarning
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions
from fastgmm.few_rows import drawn_to_their_mean
from fastgmm.frame import Frame
from fastgmm.seeding import initial_parameters
from fastgmm.structures import STRUCTURES

# Sets on either side of the size up to which k-means looks at all rows.
FEW, MANY = 1000, 6000

# One M-step on data of unit spread from equal clusters: the same sums in another order, far above their
# rounding (1e-13) and far below what one row more or less in a cluster would change (1 / n).
SAME_START = 1e-9
# The same after a few iterations: EM may amplify a difference tenfold in each.
SAME_AFTER_EM = 1e-8


def start_of(X, n_components, kind, seed=0, *, sample_weight=None, **arguments):
    mixture = GaussianMixture(
        n_components, covariance_type=kind, max_iter=0, random_state=seed, n_jobs=1, **arguments
    )
    return mixture.fit(X, sample_weight=sample_weight)


def agreement(labels, found, n_components):
    """Share of the rows whose cluster was found, clusters matched to labels by their majority."""
    return sum(
        max(np.mean((found == j) & (labels == k)) for j in range(n_components)) for k in range(n_components)
    )


def assert_same_parameters(first, second, tolerance):
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(
            getattr(second, name), getattr(first, name), rtol=tolerance, atol=tolerance, err_msg=name
        )


# -- k-means: the best of a few, in two kinds of units -------------------------------------------------


def test_the_best_of_several_sets_of_clusters_is_taken():
    """On a grid of 30 clusters one k-means misses one about every second time; the best of three rarely does.

    Finding all in 60 of 80 is 5 standard deviations from one in two, and 3 from seven in eight.
    """
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    rng = np.random.default_rng(0)
    X = np.repeat(grid, 50, axis=0) + 0.15 * rng.standard_normal((1500, 2))
    found = 0
    for seed in range(80):
        means = start_of(X, 30, "spherical", seed).means_
        distance = ((grid[:, None] - means) ** 2).sum(axis=2).min(axis=1)
        found += bool((distance < 0.1).all())
    assert found >= 60


@pytest.mark.parametrize("n_rows", [FEW, MANY])
@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_clusters_along_features_in_small_units_are_found(kind, n_rows):
    """Two clusters 20 standard deviations apart in six features, and one a thousand times as wide.

    That one tells nothing, and is all that distances in raw units see. In units of each feature's spread the
    clusters are so far apart that any k-means finds them.
    """
    for seed in range(8):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, n_rows)
        X = 2.0 * labels[:, None] + 0.1 * rng.standard_normal((n_rows, 7))
        X[:, 0] = 1e3 * rng.standard_normal(n_rows)
        assert agreement(labels, start_of(X, 2, kind, seed).predict(X), 2) > 0.99


@pytest.mark.parametrize("n_rows", [FEW, MANY])
def test_clusters_along_the_widest_of_many_features_are_found(covariance_type, n_rows):
    """Four clusters along one wide feature, beside eight narrow ones that tell nothing.

    In units of each feature's spread it would pay more to halve two of the eight.
    """
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 4, n_rows)
        X = np.column_stack(
            [1e3 * labels + 20.0 * rng.standard_normal(n_rows), rng.uniform(-1, 1, (n_rows, 8))]
        )
        assert agreement(labels, start_of(X, 4, covariance_type, seed).predict(X), 4) > 0.99


@pytest.mark.parametrize("seed", range(8))
def test_spherical_clusters_turn_with_the_data(seed):
    """Spherical covariances know one unit for all features, so nothing depends on the directions of the axes.

    The rows have no clusters: every k-means finds something else, and units of each feature's spread, which
    are other units after a rotation, would win some of the time.
    """
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (MANY, 2)) * [1.2, 1.0]
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    first, second = (start_of(rows, 7, "spherical", seed) for rows in (X, X @ turn))
    np.testing.assert_allclose(second.means_, first.means_ @ turn, rtol=0, atol=SAME_START)
    np.testing.assert_allclose(second.covariances_, first.covariances_, rtol=SAME_START)
    np.testing.assert_allclose(second.weights_, first.weights_, rtol=SAME_START)


# -- k-means on few rows: copies, order and rows of no weight -----------------------------------------


def few_rows(seed, n_rows, n_features, n_components):
    """Rows of overlapping clusters, and integer weights (some 0 with even seeds); at most 2000 in total."""
    rng = np.random.default_rng(seed)
    means = 2.0 * rng.standard_normal((n_components, n_features))
    X = means[rng.integers(0, n_components, n_rows)] + rng.standard_normal((n_rows, n_features))
    counts = rng.integers(seed % 2, 4 - seed % 2, n_rows)
    assert counts.sum() <= 2000
    return X, counts


SHAPES = pytest.mark.parametrize(
    "shape", [(60, 1, 3), (300, 2, 5), (300, 8, 4), (1000, 3, 6)], ids=lambda s: f"{s[0]}x{s[1]} K={s[2]}"
)


@SHAPES
@pytest.mark.parametrize("seed", range(4))
def test_weights_are_repeats_to_the_default_start(covariance_type, shape, seed):
    """An integer weight is so many copies of the row, wherever the copies lie; 0 is none."""
    n_components = shape[2]
    X, counts = few_rows(seed, *shape)
    weighted = start_of(X, n_components, covariance_type, seed, sample_weight=counts)
    copies = np.random.default_rng(seed).permutation(np.repeat(X, counts, axis=0))
    repeated = start_of(copies, n_components, covariance_type, seed)
    assert_same_parameters(weighted, repeated, SAME_START)


@SHAPES
@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_rows_is_nothing_to_the_default_start(covariance_type, shape, seed):
    n_components = shape[2]
    X, counts = few_rows(seed, *shape)
    order = np.random.default_rng(seed).permutation(len(X))
    for weight in (None, counts):
        moved = None if weight is None else weight[order]
        first = start_of(X, n_components, covariance_type, seed, sample_weight=weight)
        second = start_of(X[order], n_components, covariance_type, seed, sample_weight=moved)
        assert_same_parameters(first, second, SAME_START)


@pytest.mark.parametrize("seed", range(4))
def test_a_fit_to_weights_is_a_fit_to_repeats(covariance_type, seed):
    """By default arguments throughout, but for the number of iterations."""
    X, counts = few_rows(seed, 400, 2, 3)
    copies = np.random.default_rng(seed).permutation(np.repeat(X, counts, axis=0))
    fits = []
    for rows, weight in ((X, counts), (copies, None)):
        mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=seed, max_iter=3, tol=0.0)
        with pytest.warns(match="did not converge"):
            fits.append(mixture.fit(rows, sample_weight=weight))
    assert_same_parameters(*fits, SAME_AFTER_EM)


# -- weights of the rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [FEW, MANY])
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
def test_rows_of_negligible_weight_are_no_start(covariance_type, init_params, n_rows):
    """Half of the rows lie far away and weigh 1e-15 of the others: no centre is spent on them.

    At this distance they have 1e-9 of the squared distances that k-means++ draws by.
    """
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n_rows, 2))
        X[: n_rows // 2] += rng.choice([-5.0, 5.0], (n_rows // 2, 1))
        X[n_rows // 2 :] += 1e3
        weight = np.repeat([1.0, 1e-15], n_rows // 2)
        order = rng.permutation(n_rows)
        start = start_of(
            X[order], 4, covariance_type, seed, sample_weight=weight[order], init_params=init_params
        )
        assert np.abs(start.means_).max() < 20
        if init_params == "kmeans":
            assert start.weights_.min() > 0.01


def test_rows_are_drawn_in_proportion_to_their_weights():
    """random_from_data: shares of 2000 draws within 4 of their standard deviations."""
    X = np.arange(5.0)[:, None]
    weight = np.array([1.0, 0.0, 2.0, 3.0, 14.0])
    share = weight / weight.sum()
    random_state = np.random.RandomState(0)
    rows = [
        start_of(X, 1, "full", random_state, sample_weight=weight, init_params="random_from_data").means_
        for _ in range(2000)
    ]
    found = np.bincount(np.ravel(rows).astype(int), minlength=5) / 2000
    np.testing.assert_array_less(np.abs(found - share), 4 * np.sqrt(share * (1 - share) / 2000) + 1e-12)


@pytest.mark.parametrize("n_rows", [FEW, MANY])
@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_centres_go_where_the_weight_is(kind, n_rows):
    """Of two equal blobs the light one has nine tenths of the rows and a hundredth of the weight.

    One centre is enough for it: a second would take less off the sum of squares than a sixth for the other.
    """
    n_heavy = n_rows // 10
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n_rows, 2))
        X[n_heavy:] += 100.0
        weight = np.repeat([1.0, 1e-3], [n_heavy, n_rows - n_heavy])
        order = rng.permutation(n_rows)
        start = start_of(X[order], 6, kind, seed, sample_weight=weight[order])
        assert np.count_nonzero(start.means_[:, 0] > 50.0) == 1


# -- random responsibilities --------------------------------------------------------------------------


def drawn_responsibilities(seed, n_rows, n_components):
    """scikit-learn's."""
    drawn = np.random.RandomState(seed).uniform(size=(n_rows, n_components))
    return drawn / drawn.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_random_start_in_a_far_frame(covariance_type, weighted):
    """Moments about an origin 1e4 standard deviations off need a second look at the same responsibilities."""
    rng = np.random.default_rng(1)
    X = 1e4 + rng.standard_normal((300, 2))
    weight = rng.uniform(0.5, 2.0, 300) if weighted else None
    random_state = np.random.RandomState(7)
    start = initial_parameters(
        ArrayData(X, weight),
        STRUCTURES[covariance_type],
        3,
        init_params="random",
        options=EMOptions(),
        random_state=random_state,
        frame=Frame(np.zeros(2), np.ones(2)),
    )
    assert start.repaired == ()
    drawn = drawn_responsibilities(7, 300, 3)
    exact = oracle.m_step(X, drawn, covariance_type, EMOptions().reg_covar, weight)
    # means are stored: eps * 1e4 of a standard deviation
    assert oracle.difference(exact, start.parameters) <= tolerances.STEP_WHITENED
    expected = np.random.RandomState(7)
    expected.uniform(size=(300, 3))
    assert random_state.uniform() == expected.uniform(), "the next start goes on where this one's draws ended"


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
@pytest.mark.parametrize("seed", range(3))
def test_random_start_with_a_constant_feature(kind, seed):
    """A singular covariance gets a floor; weights and means are those of the responsibilities drawn."""
    X = np.random.default_rng(seed).standard_normal((80, 3))
    X[:, 1] = 2.5
    with pytest.warns(RepairWarning):
        start = start_of(X, 3, kind, seed, init_params="random", reg_covar=0.0, repair="floor")
    drawn = drawn_responsibilities(seed, 80, 3)
    np.testing.assert_allclose(start.weights_, drawn.mean(axis=0), rtol=tolerances.SUM_RELATIVE)
    np.testing.assert_allclose(start.means_, drawn.T @ X / drawn.sum(axis=0)[:, None], rtol=0, atol=1e-12)


# -- given means --------------------------------------------------------------------------------------


def beside_a_wide_feature(seed=0, n_rows=400):
    """Rows at -1 or 1 in the second feature, spread over a thousand in the first; means, and both partitions.

    In raw units the first feature decides which mean is nearer, in units of the spread the second: it has 4
    of the squared distance against at most 0.07 of the first.
    """
    rng = np.random.default_rng(seed)
    side = np.where(np.arange(n_rows) % 3 == 0, 1.0, -1.0)
    X = np.column_stack([rng.uniform(-1e3, 1e3, n_rows), side + 0.01 * rng.standard_normal(n_rows)])
    means = np.array([[10.0, 1.0], [-10.0, -1.0]])
    raw = ((X[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    by_spread = (side < 0).astype(int)
    assert np.mean(raw != by_spread) > 0.3
    return X, means, raw, by_spread


def test_rows_go_to_the_nearest_of_the_given_means(covariance_type):
    """Features in units of their spread; spherical covariances have one unit for all: raw."""
    X, means, raw, by_spread = beside_a_wide_feature()
    labels = raw if covariance_type == "spherical" else by_spread
    start = start_of(X, 2, covariance_type, means_init=means)
    exact = oracle.m_step(X, oracle.one_hot(labels, 2), covariance_type, start.reg_covar)
    np.testing.assert_array_equal(start.means_, means)
    found = start.weights_, exact.means, start.covariances_
    assert oracle.difference(exact, found) <= tolerances.STEP_WHITENED


@pytest.mark.parametrize("n_features", [2, 15])
def test_given_means_with_weights(covariance_type, n_features):
    """Rows count by weight in the weights and covariances that are found for given means."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((300, n_features))
    X[:150] += 6.0
    weight = rng.uniform(0.1, 2.0, 300)
    means = np.stack([np.zeros(n_features), np.full(n_features, 6.0)])
    labels = np.repeat([1, 0], 150)
    if n_features == 2:
        labels = ((X[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    start = start_of(X, 2, covariance_type, sample_weight=weight, means_init=means)
    exact = oracle.m_step(X, oracle.one_hot(labels, 2), covariance_type, start.reg_covar, weight)
    assert oracle.difference(exact, (start.weights_, exact.means, start.covariances_)) <= 1e-10


def test_given_parameters_are_taken_as_they_are(covariance_type):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((100, 2))
    weights, means = np.array([0.25, 0.75]), np.array([[5.0, 5.0], [-3.0, 4.0]])
    covariances = {
        "full": np.stack([np.diag([4.0, 1.0]), np.diag([0.25, 16.0])]),
        "tied": np.diag([4.0, 1.0]),
        "diag": np.array([[4.0, 1.0], [0.25, 16.0]]),
        "spherical": np.array([4.0, 0.25]),
    }[covariance_type]
    parameters = parameters_of(covariance_type, (weights, means, covariances))
    precisions = STRUCTURES[covariance_type].precisions(parameters.precisions_cholesky)
    start = start_of(
        X, 2, covariance_type, weights_init=weights, means_init=means, precisions_init=precisions
    )
    np.testing.assert_array_equal(start.weights_, weights)
    np.testing.assert_array_equal(start.means_, means)
    np.testing.assert_allclose(start.covariances_, covariances, rtol=1e-15)


@pytest.mark.parametrize("period", [2, 3, 4])
def test_rows_that_alternate(period):
    """Every so many-th row from one cluster, the others from seven: none is missed in a sub-sample."""
    rng = np.random.default_rng(0)
    n_rows = 150_000
    centres = rng.uniform(-30, 30, (8, 2))
    label = np.where(np.arange(n_rows) % period == 0, 0, rng.integers(1, 8, n_rows))
    X = centres[label] + rng.standard_normal((n_rows, 2))
    scores = []
    for rows in (X, X[rng.permutation(n_rows)]):
        mixture = GaussianMixture(8, random_state=0, tol=1e-4, max_iter=300).fit(rows)
        scores.append(mixture.lower_bound_)
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


@pytest.mark.parametrize(("shape", "added"), [((), 1), ((5,), 1), ((5, 5), 5)])
def test_covariances_of_few_rows(shape, added):
    """As if so many rows more had the mean covariance; of many rows, or of none, nothing else counts."""
    rng = np.random.default_rng(0)
    weights, n_rows = np.array([0.5, 0.2, 0.3]), np.array([1e12, 7.0, 0.0])
    covariances = rng.uniform(1.0, 2.0, size=(3, *shape))
    mean = sum(weight * covariance for weight, covariance in zip(weights, covariances, strict=True))
    expected = [covariances[0], (7.0 * covariances[1] + added * mean) / (7.0 + added), mean]
    np.testing.assert_allclose(drawn_to_their_mean(weights, covariances, n_rows), expected, rtol=1e-10)
