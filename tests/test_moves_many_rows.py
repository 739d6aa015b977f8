"""The number of components of many rows that overlap: found on samples first, of all rows in the end."""

import warnings

import numpy as np
import pytest

from fastgmm import BayesianGaussianMixture, UnfinishedSearchWarning
from fastgmm.variational import moves, moves_levels
from fastgmm.variational.moves_levels import Level, levels


def overlapping(seed, n_rows, spread, n_clusters=5, n_features=3):
    """Rows of Gaussians with random covariances, whose means are hardly farther apart than they are wide."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(n_clusters, n_features)) * spread
    labels = rng.integers(0, n_clusters, n_rows)
    roots = [np.linalg.cholesky(np.cov(rng.normal(size=(n_features, 12)))) for _ in range(n_clusters)]
    X = np.empty((n_rows, n_features))
    for k in range(n_clusters):
        of = labels == k
        X[of] = means[k] + rng.normal(size=(of.sum(), n_features)) @ roots[k].T
    return X


def auto(**options):
    return BayesianGaussianMixture(
        **{"n_components": "auto", "random_state": 0, "max_iter": 1000, "n_jobs": 2, **options}
    )


def bound_of_the_right_number(X, n):
    return (
        BayesianGaussianMixture(
            n_components=n, weight_concentration_prior=1.0, max_iter=2000, random_state=0, n_jobs=2
        )
        .fit(X)
        .lower_bound_
    )


def check(mixture, X, n):
    assert mixture.n_components_ == n
    assert mixture.converged_
    assert mixture.lower_bound_ > bound_of_the_right_number(X, n) - len(X) * mixture.tol
    assert (np.diff(mixture.lower_bounds_) >= 0.0).all()


def test_many_rows_that_overlap():
    X = overlapping(3, 100_000, 1.5)
    check(auto().fit(X), X, 5)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "spread"), [(0, 1.6), (1, 1.8), (2, 1.7), (3, 1.5)])
@pytest.mark.parametrize("n_rows", [20_000, 100_000, 300_000])
def test_more_rows_that_overlap(seed, spread, n_rows):
    X = overlapping(seed, n_rows, spread)
    check(auto().fit(X), X, 5)


def test_samples_save_iterations_over_all_rows(monkeypatch):
    X = overlapping(0, 40_000, 1.6)
    with_samples = auto(max_iter=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with_samples.fit(X)
        monkeypatch.setattr(moves_levels, "FEWEST_ROWS", 1 << 30)
        without = auto(max_iter=60).fit(X)
    assert with_samples.n_components_ == 5
    assert without.n_components_ > 10


def test_weights_and_blocks_are_searched_on_samples_too():
    """Wherever they lie, the same search: from 64 components it would not end in so few iterations."""
    X = overlapping(2, 24_000, 1.7)
    weight = np.where(np.arange(len(X)) % 6 == 0, 0.0, 1.0)
    options = {"max_iter": 60, "tol": 1.0}
    weighted = auto(**options).fit(X, sample_weight=weight)
    blocks = auto(**options).fit([X[::2], X[1::2]])
    assert weighted.n_components_ == blocks.n_components_ == 5
    assert auto(**options).fit(X[weight > 0]).lower_bound_ == pytest.approx(weighted.lower_bound_, abs=5.0)


@pytest.mark.parametrize(
    ("n_rows", "n_in_memory", "n_numbers", "expected"),
    [
        (16_000, 16_000, 100, []),
        (20_000, 20_000, 100, [Level(5_000, 2.0), Level(20_000, 1.0)]),
        (300_000, 300_000, 100, [Level(4_687, 2.0), Level(18_750, 2.0), Level(75_000, 2.0)]),
        (300_000, 300_000, 5_000, [Level(75_000, 2.0)]),
        (300_000, 300_000, 50_000, []),
        (10**10, 40_000, 100, [Level(10_000, 2.0), Level(40_000, 2.0)]),
        (40_000, 10_000, 100, [Level(10_000, 2.0)]),
    ],
)
def test_sizes_of_samples(n_rows, n_in_memory, n_numbers, expected):
    assert levels(n_rows, n_in_memory, n_numbers) == expected


@pytest.mark.parametrize("max_iter", [3, 12, 40, 100])
def test_a_search_that_is_cut_off_says_so(max_iter, monkeypatch):
    monkeypatch.setattr(moves_levels, "FEWEST_ROWS", 1 << 30)
    X = overlapping(0, 5_000, 1.6)
    with pytest.warns(UnfinishedSearchWarning, match="not a result. Increase max_iter: iterations of moves"):
        mixture = auto(max_iter=max_iter).fit(X)
    assert not mixture.converged_
    assert mixture.n_iter_ <= max_iter


def test_a_search_that_time_ends_says_so():
    X = overlapping(0, 5_000, 1.6)
    with pytest.warns(UnfinishedSearchWarning, match="Increase max_time"):
        auto(max_time=1e-3).fit(X)


def test_merges_come_last_where_moves_are_cut_off(monkeypatch):
    """Iterations are kept back for them, so that no births and splits are left that are better one."""
    last = []

    def merge(search):
        last.append((search.result.n_iter + search.n_spent, search.limit))
        return False

    monkeypatch.setattr(moves_levels, "FEWEST_ROWS", 1 << 30)
    monkeypatch.setattr(moves.Search, "merge", merge)  # what _MOVES holds is still the old one
    with pytest.warns(UnfinishedSearchWarning):
        auto(max_iter=30).fit(overlapping(1, 4_000, 1.8))
    assert last == [(27, 30)]


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("kind", ["dirichlet_process", "dirichlet_distribution"])
def test_bounds_never_fall(covariance_type, kind):
    """Until a move is kept, the bound is that of the mixture which it may replace."""
    rng = np.random.default_rng(5)
    for n_features, n_rows, spread in ((1, 205, 3.0), (4, 700, 1.0)):
        X = rng.normal(size=(n_rows, n_features))
        X += spread * rng.normal(size=(6, n_features))[rng.integers(0, 6, n_rows)]
        mixture = auto(
            covariance_type=covariance_type,
            weight_concentration_prior_type=kind,
            tol=0.0,
            max_iter=60,
            reg_covar=0.0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mixture.fit(X)
        bounds = np.array(mixture.lower_bounds_)
        left_out = [move[0] for move in mixture.history_["moves"] if move[1] == "empty"]
        rises = np.diff(bounds)
        rises[np.array(left_out, dtype=int) - 1] += 1.0  # what leaving out components without rows may cost
        assert (rises >= -1e-9 * np.abs(bounds[1:])).all()
        for iteration, _, _, _, before, after, kept in mixture.history_["moves"]:
            assert before == bounds[iteration - 1]
            assert not kept or after in bounds
