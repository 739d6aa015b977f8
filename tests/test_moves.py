"""Split, merge and birth moves: what they find, that the bound rises with each, and what is refused."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score

from fastgmm import BayesianGaussianMixture
from fastgmm.variational import moves

TYPES = ("full", "tied", "diag", "spherical")
PRIORS = ("dirichlet_process", "dirichlet_distribution")


def blobs(n_clusters, n_features=3, n_rows=1500, seed=0, apart=7.0):
    """Round clusters of unequal size, no two means nearer than `apart` standard deviations."""
    rng = np.random.default_rng([seed, n_clusters])
    means = np.empty((0, n_features))
    while len(means) < n_clusters:
        mean = rng.uniform(-1, 1, n_features) * apart * n_clusters ** (1 / n_features)
        if not len(means) or np.linalg.norm(means - mean, axis=1).min() >= apart:
            means = np.vstack([means, mean])
    shares = rng.dirichlet(np.full(n_clusters, 20.0))
    labels = rng.choice(n_clusters, size=n_rows, p=shares)
    return means[labels] + rng.standard_normal((n_rows, n_features)), labels


def auto(**options):
    return BayesianGaussianMixture(**{"n_components": "auto", "random_state": 0, "n_jobs": 1, **options})


def check_history(mixture):
    """The bound rises with every iteration that counts and every move that was kept, and with no other."""
    bounds = np.array(mixture.lower_bounds_)
    tried = mixture.history_["moves"]
    left_out = [move[0] for move in tried if move[1] == "empty"]  # which may cost a nat
    rises = np.diff(bounds)
    rises[np.array(left_out, dtype=int) - 1] += 1.0
    assert (rises >= -1e-7 * np.abs(bounds[1:])).all()
    assert len(bounds) == mixture.n_iter_
    assert mixture.lower_bound_ == bounds[-1]
    tried = [move for move in tried if move[1] != "empty"]
    for iteration, name, _, _, before, after, kept in tried:
        assert name in ("merge", "split", "birth")
        assert before == bounds[iteration - 1]
        if kept:
            assert after > before
            assert after in bounds
        # nor does it count what EM gains in as many iterations
        gained = max(bounds[iteration - 1] - bounds[iteration - 2], 0.0) if iteration > 1 else 0.0
        least = before + 1e-10 * abs(before) + moves.TRIAL * gained + (name != "merge")
        assert kept == (after > least)
    return [(name, now - then) for _, name, then, now, _, _, kept in tried if kept]


@pytest.mark.parametrize("n_clusters", [1, 2, 5, 12])
@pytest.mark.parametrize("prior", PRIORS)
def test_auto_finds_the_number(n_clusters, prior):
    X, labels = blobs(n_clusters)
    # the covariance of all rows, the default, is so much wider that small clusters had better be one
    options = {"weight_concentration_prior_type": prior, "covariance_prior": np.eye(3)}
    mixture = auto(**options, reg_covar=0.0).fit(X)
    assert mixture.n_components_ == mixture.n_effective_components_ == n_clusters == len(mixture.weights_)
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.98
    check_history(mixture)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_of_all_types(covariance_type):
    X, labels = blobs(6, seed=1)
    mixture = auto(covariance_type=covariance_type, reg_covar=0.0, max_iter=300).fit(X)
    assert mixture.n_components_ == 6
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.98
    assert ("merge", 6 - 64) in check_history(mixture) or mixture.history_["moves"]


@pytest.mark.parametrize(("n_clusters", "n_features", "seed"), [(8, 4, 0), (20, 8, 1)])
def test_four_standard_deviations_apart(n_clusters, n_features, seed):
    """A small part of benchmarks/bayesian_auto.py: normal means, the closest 4 standard deviations apart."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((n_clusters, n_features))
    gaps = np.linalg.norm(means[:, None] - means, axis=2)[np.triu_indices(n_clusters, 1)]
    means *= 4.0 / gaps.min()
    labels = rng.integers(n_clusters, size=300 * n_clusters)
    X = means[labels] + rng.standard_normal((len(labels), n_features))
    mixture = auto(random_state=seed).fit(X)
    assert mixture.n_components_ == n_clusters
    assert adjusted_rand_score(labels, mixture.predict(X)) >= 0.95


def test_many_are_found_from_the_few_that_are_started_with():
    """More than START components: splits find what merges cannot."""
    X, _ = blobs(80, n_features=4, n_rows=8000, seed=3)
    mixture = auto(max_iter=300, covariance_prior=np.eye(4)).fit(X)
    assert mixture.n_components_ == 80
    assert any(name == "split" and more > 0 for name, more in check_history(mixture))


def test_each_move_alone():
    X, labels = blobs(4, seed=2)
    # four components, of which one has all rows: only a split or a birth can use the others
    one = np.zeros(len(X), dtype=np.int64)
    common = {"n_components": 4, "random_state": 0, "reg_covar": 0.0, "max_iter": 300, "n_jobs": 1}
    stuck = BayesianGaussianMixture(**common, responsibilities_init=one).fit(X)
    assert stuck.n_effective_components_ == 1
    for name in ("split", "birth"):
        mixture = BayesianGaussianMixture(**common, responsibilities_init=one, moves=name).fit(X)
        assert mixture.lower_bound_ > stuck.lower_bound_ + 100.0
        assert {move for move, _ in check_history(mixture)} == {name}
        if name == "split":
            assert mixture.n_effective_components_ == 4
            assert adjusted_rand_score(labels, mixture.predict(X)) > 0.98
    # eight components, two for each cluster, side by side
    halves = 2 * labels + (X[:, 0] > np.array([X[labels == k, 0].mean() for k in range(4)])[labels])
    common["n_components"] = 8
    merged = BayesianGaussianMixture(**common, responsibilities_init=halves, moves=["merge"]).fit(X)
    assert merged.n_components_ == 8
    assert merged.n_effective_components_ == 4
    assert {move for move, _ in check_history(merged)} == {"merge"}


def test_a_poor_optimum_is_left_with_no_component_to_spare():
    """One component has two clusters, two share one: a merge and a split at once, as Ueda et al. have it."""
    X, labels = blobs(4, seed=2)
    start = labels.copy()
    start[labels == 1] = 0
    start[(labels == 3) & (X[:, 0] > X[labels == 3, 0].mean())] = 1
    common = {"n_components": 4, "responsibilities_init": start, "reg_covar": 0.0, "max_iter": 500}
    stuck = BayesianGaussianMixture(**common).fit(X)
    mixture = BayesianGaussianMixture(**common, moves="all").fit(X)
    assert adjusted_rand_score(labels, stuck.predict(X)) < 0.9
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.98
    assert mixture.lower_bound_ > stuck.lower_bound_ + 100.0
    assert mixture.n_components_ == 4
    check_history(mixture)


def test_all_components_are_needed_elsewhere():
    """Three components and four clusters: to merge alone costs, and there is no room to split."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 150)
    X = np.array([[0.0, 0.0], [4.5, 0.0], [40.0, 0.0], [0.0, 40.0]])[labels] + rng.standard_normal((600, 2))
    common = {"n_components": 3, "responsibilities_init": np.array([0, 1, 2, 2])[labels]}
    common |= {"reg_covar": 0.0, "max_iter": 500, "covariance_prior": np.eye(2)}
    stuck = BayesianGaussianMixture(**common).fit(X)
    without = BayesianGaussianMixture(**common, moves=["split", "birth"]).fit(X)
    mixture = BayesianGaussianMixture(**common, moves="all").fit(X)
    assert stuck.lower_bound_ == pytest.approx(without.lower_bound_)
    assert mixture.lower_bound_ > stuck.lower_bound_ + 100.0
    assert adjusted_rand_score(np.array([0, 0, 1, 2])[labels], mixture.predict(X)) == 1.0
    assert check_history(mixture) == [("split", 0)]


def test_merges_are_tried_that_cost_at_first(monkeypatch):
    X = PCA(8, random_state=0).fit_transform(load_digits().data)[:900]
    options = {"covariance_type": "spherical", "max_iter": 500, "max_components": 20}
    mixture = auto(**options).fit(X)
    monkeypatch.setattr(moves, "EXPLORED", 0)
    assert mixture.lower_bound_ > auto(**options).fit(X).lower_bound_ + 10.0


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_constant_column_makes_no_components(covariance_type):
    X, _ = blobs(4, seed=1)
    constant = np.column_stack([X, np.full(len(X), 3.0)])
    mixture = auto(covariance_type=covariance_type, max_iter=300).fit(constant)
    if covariance_type != "spherical":  # whose variances it makes smaller
        assert mixture.n_components_ == 4
    assert np.isfinite(mixture.lower_bound_)
    if covariance_type != "spherical":
        with pytest.raises(ValueError, match="columns of X are constant"):
            auto(covariance_type=covariance_type, reg_covar=0.0).fit(constant)


def test_weights_count_rows():
    X, _ = blobs(4, n_rows=400)
    counts = np.random.default_rng(0).integers(0, 4, size=len(X))
    weighted = auto(reg_covar=0.0).fit(X, sample_weight=counts.astype(float))
    repeated = auto(reg_covar=0.0).fit(np.repeat(X, counts, axis=0))
    assert weighted.n_components_ == repeated.n_components_ == 4
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-7)


def test_the_same_bits_with_any_number_of_threads():
    X, _ = blobs(5, n_rows=600)
    one, two = auto(n_jobs=1).fit(X), auto(n_jobs=2).fit(X)
    assert one.lower_bounds_ == two.lower_bounds_
    assert np.array_equal(one.means_, two.means_)
    assert one.history_["moves"] == two.history_["moves"]


def test_rows_that_come_in_blocks():
    X, labels = blobs(5)
    mixture = auto().fit([X[:700], X[700:]])
    assert mixture.n_components_ == 5
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.98


def test_rows_of_dask():
    da = pytest.importorskip("dask.array")
    X, labels = blobs(4)
    mixture = auto().fit(da.from_array(X, chunks=(800, -1)))
    assert mixture.n_components_ == 4
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.98


def test_max_components():
    X, _ = blobs(6)
    mixture = auto(max_components=4).fit(X)
    assert mixture.n_components_ <= 4
    assert auto().fit(X[:7]).n_components_ == 1  # too few rows for more, unless it is said how many


def test_wide_rows():
    """Where covariances take few numbers, so do they few rows; and what is asked for is not overruled."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    X = rng.standard_normal((200, 60)) + 4.0 * labels[:, None]
    for options in ({"covariance_type": "spherical"}, {"max_components": 10, "covariance_type": "diag"}):
        mixture = auto(max_iter=500, **options).fit(X)
        assert mixture.n_components_ == 2
        assert adjusted_rand_score(labels, mixture.predict(X)) == 1.0


def test_all_that_were_found_are_in_use():
    """However many they are: a hundredth of the rows is for components that were not asked for."""
    X, _ = blobs(5)
    mixture = auto().fit(X)
    mixture.mean_precision_ = np.full(5, mixture.mean_precision_prior_ + 1e-3)
    assert mixture.n_effective_components_ == 5
    assert len(mixture.compact().weights_) == 5
    assert not mixture.used_components(0.5).size
    with pytest.raises(ValueError, match=r"0\.5 of the rows and more than n_features \+ 1 of them"):
        mixture.compact(0.5)


def test_arithmetic_is_double():
    """Bounds are compared to a nat."""
    X = blobs(3)[0].astype(np.float32)
    assert not any(auto(arithmetic="float32").fit(X).history_["pairs_single"])


def test_limits_of_iterations_and_time():
    X, _ = blobs(5)
    for most in (1, 7, 25):
        with pytest.warns(ConvergenceWarning):
            mixture = auto(max_iter=most).fit(X)
        tried_in_vain = sum(not kept for *_, kept in mixture.history_["moves"])
        assert mixture.n_iter_ + tried_in_vain <= most
        assert not mixture.converged_
    with pytest.warns(ConvergenceWarning, match="max_time"):
        mixture = auto(max_time=1e-6).fit(X)
    assert mixture.n_iter_ == 1
    assert len(auto(max_iter=0).fit(X).means_) == 64


def test_warm_start_goes_on_from_what_was_found():
    X, _ = blobs(5)
    mixture = auto(warm_start=True, covariance_prior=np.eye(3)).fit(X)
    bound = mixture.lower_bound_
    mixture.fit(X)
    assert mixture.n_components_ == 5
    assert mixture.lower_bound_ >= bound - 1e-9 * abs(bound)
    assert mixture.n_iter_ <= 3
    # twice as many clusters: splits find them
    far = np.concatenate([X, X + 60.0])
    assert mixture.fit(far).n_components_ == 10


def test_the_best_of_several_runs():
    X, _ = blobs(5, n_rows=600)
    many = auto(n_init=3, init_params="random", max_iter=400).fit(X)
    assert many.n_components_ == 5
    assert "moves" in many.history_


def test_files_copies_and_scikit_learn(tmp_path):
    X, _ = blobs(3)
    mixture = auto(moves=["merge", "split"], max_components=20).fit(X)
    mixture.save(tmp_path / "m.npz")
    loaded = BayesianGaussianMixture.load(tmp_path / "m.npz")
    assert loaded.get_params() == mixture.get_params()
    assert loaded.history_ == mixture.history_
    assert loaded.n_components_ == 3
    assert np.array_equal(loaded.predict(X), mixture.predict(X))
    theirs = mixture.to_sklearn()
    assert theirs.n_components == 3
    assert np.array_equal(theirs.predict(X), mixture.predict(X))
    unfitted = clone(mixture)
    assert unfitted.moves == ["merge", "split"]
    with pytest.raises(NotFittedError):
        unfitted.n_components_  # noqa: B018
    with pytest.raises(NotFittedError):
        unfitted.to_sklearn()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moves": "jump"}, "'moves' parameter"),
        ({"moves": []}, "moves is empty"),
        ({"moves": ["split", "jump"]}, "moves holds 'jump'"),
        ({"n_components": "many"}, "'n_components' parameter"),
        ({"max_components": 0}, "'max_components' parameter"),
        ({"checkpoint": "somewhere.npz"}, "checkpoint is given"),
        ({"n_components": 2, "moves": "all", "checkpoint": "somewhere.npz"}, "checkpoint is given"),
        ({"means_init": np.zeros((2, 3))}, "means_init is given"),
        ({"responsibilities_init": np.zeros(5, dtype=int)}, "responsibilities_init is given"),
    ],
)
def test_what_is_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mixture = auto(**options)
    with pytest.raises(ValueError, match=message):
        mixture.fit(np.zeros((5, 3)) + np.arange(5)[:, None])
    assert not hasattr(mixture, "means_")
    assert not list(tmp_path.iterdir())


def test_progress_counts_moves_that_were_taken_back(capfd):
    X, _ = blobs(3)
    mixture = auto(verbose=2, verbose_interval=1).fit(X)
    lines = [int(line.split("iteration ")[1].split(":")[0]) for line in capfd.readouterr().out.splitlines()]
    assert lines == sorted(set(lines))
    assert lines[-1] >= mixture.n_iter_
