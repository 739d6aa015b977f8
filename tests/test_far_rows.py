"""Labels and responsibilities of rows far from all components.

Scores of tied covariances differ by what is linear in the rows: the square that they share hides it from 1e16
standard deviations on unless it is left out.
"""

import pickle

import mpmath
import numpy as np
import pytest

from fastgmm import BayesianGaussianMixture, GaussianMixture

TYPES = ("full", "tied", "diag", "spherical")
DISTANCES = (1e7, 1e12, 1e16, 1e17, 1e40, 1e150, 1e155, 1e300)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_nearer_of_two_components_is_known_at_any_distance(distance):
    mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0, 0], [5, 5]], np.eye(2), "tied")
    X = np.array([[distance, distance], [-distance, -distance], [distance, 0], [0, -distance]])
    for made in (mixture, pickle.loads(pickle.dumps(mixture)), mixture.scorer()):
        np.testing.assert_array_equal(made.predict(X), [1, 0, 1, 0])
        np.testing.assert_array_equal(made.predict_proba(X), [[0, 1], [1, 0], [0, 1], [1, 0]])
    scorer = pickle.loads(pickle.dumps(mixture.scorer()))
    np.testing.assert_array_equal(scorer.predict(X), [1, 0, 1, 0])
    # rows in their midst are not touched by it
    X[1:3] = [[2.4, 2.5], [2.6, 2.5]]
    np.testing.assert_array_equal(mixture.predict(X), [1, 0, 1, 0])
    expected = 1 / (1 + np.exp([0.5, -0.5]))
    np.testing.assert_allclose(mixture.predict_proba(X)[1:3, 1], expected, rtol=1e-12)


def exact_responsibilities(mixture, X):
    """By arithmetic of 500 digits, and how far the best score is above the next."""
    exact = np.vectorize(mpmath.mpf, otypes=[object])
    root, found, margins = exact(mixture.precisions_cholesky_), [], []
    with mpmath.workdps(500):
        for row in exact(X):
            y = [(row - mean) @ root for mean in exact(mixture.means_)]
            scores = [mpmath.log(w) - (u @ u) / 2 for w, u in zip(exact(mixture.weights_), y, strict=True)]
            best = max(scores)
            parts = [mpmath.exp(score - best) for score in scores]
            found.append([float(part / sum(parts)) for part in parts])
            margins.append(float(best - sorted(scores)[-2]))
    return np.array(found), np.array(margins)


@pytest.mark.parametrize("seed", range(12))
def test_responsibilities_are_right_at_any_distance(seed):
    rng = np.random.default_rng(seed)
    D, K = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    units = 10.0 ** (rng.choice([0, 3, 100]) * rng.uniform(-1, 1, size=D))
    root = (np.eye(D) + rng.choice([0, 0.5]) * rng.normal(size=(D, D))) * units[:, None]
    means = rng.normal(size=(K, D)) * units * rng.choice([1, 10])
    mixture = GaussianMixture.from_parameters(rng.dirichlet(np.ones(K)), means, root @ root.T, "tied")
    distance = 10.0 ** rng.uniform(-1, rng.choice([3, 20, 150]), size=(30, 1))
    X = rng.normal(size=(30, D)) * distance * units
    expected, margins = exact_responsibilities(mixture, X)
    np.testing.assert_allclose(mixture.predict_proba(X), expected, atol=1e-8)
    sure = margins > 1e-6
    np.testing.assert_array_equal(mixture.predict(X)[sure], expected.argmax(axis=1)[sure])


def test_the_posterior_labels_them_too():
    X = np.random.default_rng(0).normal(size=(200, 2)) + 9.0 * (np.arange(200) % 2)[:, None]
    mixture = BayesianGaussianMixture(n_components=2, covariance_type="tied", random_state=0).fit(X)
    far = np.array([[1e17, 1e17], [-1e17, -1e17]])
    upper = int(np.argmax(mixture.means_[:, 0]))
    np.testing.assert_array_equal(mixture.predict(far), [upper, 1 - upper])


@pytest.mark.parametrize("covariance_type", TYPES)
def test_no_row_is_too_far_to_be_scored(covariance_type):
    covariances = {
        "full": [np.eye(3)] * 2,
        "tied": np.eye(3),
        "diag": np.ones((2, 3)),
        "spherical": np.ones(2),
    }
    for unit in (1e-140, 1.0, 1e140):
        mixture = GaussianMixture.from_parameters(
            [0.5, 0.5],
            np.array([[0.0] * 3, [5.0] * 3]) * unit,
            np.asarray(covariances[covariance_type]) * unit**2,
            covariance_type,
        )
        X = np.array([[1.7e308] * 3, [-1.7e308, 1.7e308, 0.0], [1e155, -1e155, 1.0], [1e200, 1e300, 1e250]])
        shares = mixture.predict_proba(X)
        assert np.isfinite(shares).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)
        assert set(mixture.predict(X)) <= {0, 1}
        assert not np.isnan(mixture.score_samples(X)).any()
