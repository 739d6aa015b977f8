"""A component never kills a fit, and nothing is repaired that scikit-learn survives.

Each degenerate case is fitted from a given start by both libraries. Where scikit-learn ends with finite
parameters, ours must be the same, with no repair and no warning. Where it gives up, ours ends with finite
parameters, counts its repairs and warns once, naming the components.
"""

from __future__ import annotations

import re
import warnings

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from running import run_em
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer

from fastgmm import DegenerateComponentError, GaussianMixture, RegularizationWarning, RepairWarning
from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES, maximum_likelihood

REPAIRS = ("reseed", "floor")
PARAMETERS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def fit(estimator, X, **arguments):
    """The fitted estimator and its RepairWarnings.

    ConvergenceWarning may come, and RegularizationWarning, as rows repeat here or have tiny units. Anything
    else is an error.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, **arguments)
    for warning in caught:
        expected = RepairWarning | RegularizationWarning | ConvergenceWarning
        assert issubclass(warning.category, expected), str(warning.message)
    return estimator, [w.message for w in caught if issubclass(w.category, RepairWarning)]


def named_components(message) -> list[int]:
    """The component numbers in a RepairWarning."""
    found = re.search(r"components?:? (\d+(?:, \d+)*)", str(message))
    assert found, f"no component is named in: {message}"
    return [int(number) for number in found.group(1).split(",")]


def assert_usable(estimator, X, repair_warnings):
    """Finite, consistent parameters; the warning is there exactly when something was repaired."""
    for name in PARAMETERS:
        assert np.all(np.isfinite(getattr(estimator, name))), name
    assert np.all(estimator.weights_ >= 0)
    assert estimator.weights_.sum() == pytest.approx(1.0, abs=1e-12)
    assert isinstance(estimator.n_repairs_, int)
    assert len(repair_warnings) == (estimator.n_repairs_ > 0)
    if repair_warnings:
        named = named_components(repair_warnings[0])
        assert named == sorted(set(named))
        assert set(named) <= set(range(estimator.n_components))
    assert np.all(np.isfinite(estimator.score_samples(X)))
    assert np.isfinite(estimator.lower_bound_)
    shares = estimator.predict_proba(X)
    assert np.all(np.isfinite(shares))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=tolerances.ROW_SUM)
    with warnings.catch_warnings():
        # NumPy's own check of a covariance with very different variances; its draws are what counts.
        warnings.filterwarnings("ignore", "covariance is not symmetric positive-semidefinite")
        rows, _ = estimator.sample(20)
    assert np.all(np.isfinite(rows))


def rows_and_start(covariance_type, n_rows=200, n_features=3, n_components=3):
    X, start = datasets.problem(6, n_rows, n_features, n_components, covariance_type)
    return X.copy(), tuple(np.array(a) for a in start)


def in_units(covariance_type, start, unit):
    """The start for rows times `unit` (one number per feature)."""
    weights, means, covariances = start
    if covariance_type in ("full", "tied"):
        return weights, means * unit, covariances * np.outer(unit, unit)
    return weights, means * unit, covariances * (unit**2 if covariance_type == "diag" else unit[0] ** 2)


# -- the cases: (X, start) ---------------------------------------------------------------------------


def constant_column(covariance_type):
    X, start = rows_and_start(covariance_type)
    X[:, 1] = 2.5
    return X, start


def constant_column_of_an_awkward_value(covariance_type):
    """Sums of 0.1 are not multiples of 0.1: the variance comes out as rounding, of either sign."""
    X, start = rows_and_start(covariance_type)
    X[:, 1] = 0.1 + 1e6
    start[1][:, 1] = 1e6
    return X, start


def all_columns_constant(covariance_type):
    X, start = rows_and_start(covariance_type)
    return np.full_like(X, 3.7), start


def duplicated_rows(covariance_type):
    X, start = rows_and_start(covariance_type, n_rows=60)
    return np.repeat(X[:12], 20, axis=0), start


def fewer_distinct_rows_than_components(covariance_type):
    X, start = rows_and_start(covariance_type)
    return np.repeat(X[:2], 50, axis=0), start


def one_repeated_row_beside_a_cluster(covariance_type):
    X, start = rows_and_start(covariance_type)
    X[:80] = 40.0
    start[1][0] = 40.0
    return X, start


def more_features_than_rows(covariance_type):
    X, start = rows_and_start(covariance_type, n_rows=400, n_features=20, n_components=2)
    return X[:15], start


def more_features_than_rows_in_mixed_units(covariance_type):
    X, start = more_features_than_rows(covariance_type)
    unit = 10.0 ** np.linspace(-100, 100, X.shape[1])
    if covariance_type == "spherical":
        unit[:] = 1e100
    return X * unit, in_units(covariance_type, start, unit)


def duplicate_columns(covariance_type):
    X, start = rows_and_start(covariance_type)
    X[:, 2] = X[:, 0]
    return X, start


def two_rows_for_two_components(covariance_type):
    X, start = rows_and_start(covariance_type, n_components=2)
    return X[:2], start


DEGENERATE = (
    constant_column,
    constant_column_of_an_awkward_value,
    all_columns_constant,
    duplicated_rows,
    fewer_distinct_rows_than_components,
    one_repeated_row_beside_a_cluster,
    more_features_than_rows,
    more_features_than_rows_in_mixed_units,
    duplicate_columns,
    two_rows_for_two_components,
)

cases = pytest.mark.parametrize("case", DEGENERATE, ids=lambda case: case.__name__)


def peer_survives(peer, X):
    """scikit-learn's fit where it ends, and ends with finite parameters; None where it does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            peer.fit(X)
        except ValueError:
            return None
    finite = all(np.all(np.isfinite(getattr(peer, name))) for name in PARAMETERS)
    return peer if finite else None


@cases
@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.parametrize("reg_covar", [1e-6, 0.0])
def test_fit_ends(covariance_type, case, repair, reg_covar):
    X, start = case(covariance_type)
    arguments = datasets.init_arguments(covariance_type, start)
    common = dict(covariance_type=covariance_type, reg_covar=reg_covar, **arguments)
    estimator, repair_warnings = fit(
        GaussianMixture(len(start[0]), repair=repair, random_state=0, **common), X
    )
    assert_usable(estimator, X, repair_warnings)


@cases
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_fit_ends_with_seeding(covariance_type, case, init_params):
    X, start = case(covariance_type)
    estimator = GaussianMixture(
        len(start[0]), covariance_type=covariance_type, init_params=init_params, random_state=0
    )
    estimator, repair_warnings = fit(estimator, X)
    assert_usable(estimator, X, repair_warnings)


@cases
def test_nothing_is_repaired_that_scikit_learn_survives(covariance_type, case):
    """At the default reg_covar all these cases are ordinary work."""
    X, start = case(covariance_type)
    arguments = datasets.init_arguments(covariance_type, start)
    common = dict(covariance_type=covariance_type, tol=0.0, max_iter=10, **arguments)
    peer = peer_survives(Peer(len(start[0]), **common), X)
    if peer is None:
        pytest.skip("scikit-learn gives up here")
    if peer.weights_.min() < 10 * tolerances.EPS:
        pytest.skip("a component without rows is on the list of what is repaired")
    estimator, repair_warnings = fit(GaussianMixture(len(start[0]), repair="raise", **common), X)
    assert estimator.n_repairs_ == 0
    assert repair_warnings == []
    # Against the oracle: variances down to reg_covar are where scikit-learn's expansion loses its digits.
    exact, bounds = oracle.em(X, oracle.make_model(covariance_type, *start), 10, 1e-6)
    ours = estimator.weights_, estimator.means_, estimator.covariances_
    assert oracle.difference(exact, ours) <= tolerances.PARITY_NEARLY_SINGULAR
    np.testing.assert_allclose(
        estimator.lower_bounds_, np.array(bounds, dtype=float), atol=tolerances.PARITY_NEARLY_SINGULAR
    )


def singular(covariance_type):
    """Rows on a line with an exact representation: without reg_covar scikit-learn cannot factorise."""
    X, start = rows_and_start(covariance_type)
    X[:, 1] = 2.0
    start[1][:, 1] = 2.0
    if covariance_type == "spherical":
        X[:, :] = 2.0  # one variance for all features: only equal rows make it zero
        start[1][:, :] = 2.0
    return X, start


@pytest.mark.parametrize("repair", REPAIRS)
def test_what_kills_scikit_learn_is_repaired(covariance_type, repair):
    X, start = singular(covariance_type)
    common = dict(
        covariance_type=covariance_type, reg_covar=0.0, **datasets.init_arguments(covariance_type, start)
    )
    assert peer_survives(Peer(3, **common), X) is None, "the case is to be one that scikit-learn gives up"
    estimator, repair_warnings = fit(GaussianMixture(3, repair=repair, random_state=0, **common), X)
    assert estimator.n_repairs_ > 0
    assert len(repair_warnings) == 1
    assert_usable(estimator, X, repair_warnings)
    # Shape and attributes as after any other fit.
    assert estimator.n_iter_ >= 1
    assert len(estimator.lower_bounds_) == estimator.n_iter_


def test_repair_raise(covariance_type):
    X, start = singular(covariance_type)
    common = dict(
        covariance_type=covariance_type, reg_covar=0.0, **datasets.init_arguments(covariance_type, start)
    )
    estimator = GaussianMixture(3, repair="raise", **common)
    with pytest.raises(DegenerateComponentError, match=r"\b[0-2]\b"):
        estimator.fit(X)
    assert issubclass(DegenerateComponentError, ValueError)
    assert not hasattr(estimator, "means_"), "a fit that failed must not leave half a model"


def collapsing(covariance_type):
    """Component 1 of 3 sits on one row of its own, far from the others: its covariance becomes zero."""
    X, start = rows_and_start(covariance_type)
    X[17] = 1e3
    start[1][1] = 1e3
    return X, start


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("repair", REPAIRS)
def test_the_warning_names_the_component(kind, repair):
    X, start = collapsing(kind)
    arguments = datasets.init_arguments(kind, start)
    # One iteration: later on another component may take the lonely row, and collapse in its turn.
    common = dict(covariance_type=kind, reg_covar=0.0, max_iter=1, **arguments)
    estimator, repair_warnings = fit(GaussianMixture(3, repair=repair, random_state=0, **common), X)
    assert len(repair_warnings) == 1
    assert named_components(repair_warnings[0]) == [1]
    assert_usable(estimator, X, repair_warnings)
    with pytest.raises(DegenerateComponentError, match=r"\b1\b"):
        GaussianMixture(3, repair="raise", **common).fit(X)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_reseed_moves_and_floor_stays(kind):
    """Reseeding gives the component other rows to explain; a floor only gives it a covariance."""
    X, start = collapsing(kind)
    reseeded = run_em(X, kind, start, 1, reg_covar=0.0, repair="reseed")
    floored = run_em(X, kind, start, 1, reg_covar=0.0, repair="floor")
    assert reseeded.repaired == floored.repaired == (1,)
    np.testing.assert_allclose(floored.parameters.means[1], 1e3, rtol=1e-6)
    moved = np.abs(reseeded.parameters.means[1] - 1e3).max() > 1.0
    wider = np.max(reseeded.parameters.covariances[1]) > np.max(floored.parameters.covariances[1])
    assert moved or wider
    for result in (reseeded, floored):
        assert np.all(
            np.linalg.eigvalsh(
                oracle.covariance_matrix(kind, result.parameters.covariances, 1, 3).astype(float)
            )
            > 0
        )


def test_repair_is_the_same_on_any_number_of_threads():
    X, start = collapsing("full")
    results = [run_em(X, "full", start, 8, reg_covar=0.0, n_threads=n) for n in (1, 2, 3)]
    for other in results[1:]:
        assert other.repaired == results[0].repaired
        np.testing.assert_array_equal(other.parameters.means, results[0].parameters.means)


# -- at the ends of the numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("reg_covar", [1e-6, 0.0])
@pytest.mark.parametrize("unit", [1e152, 1e150, 1e-150, 1e-153, 1e-155, 1e-160, 1e-300])
def test_extreme_units(covariance_type, unit, reg_covar):
    """Variances up to 1e305 are ordinary; where they or precisions are no numbers, components get a floor."""
    X, _ = rows_and_start(covariance_type)
    estimator = GaussianMixture(3, covariance_type=covariance_type, reg_covar=reg_covar, random_state=0)
    estimator, repair_warnings = fit(estimator, X * unit)
    assert_usable(estimator, X * unit, repair_warnings)
    # 1 / 1e-310 is no number, but reg_covar is one
    assert (estimator.n_repairs_ > 0) == (unit < 1e-154 and reg_covar == 0)


def test_variances_that_overflow_are_singular(covariance_type):
    """`fit` refuses such rows; a component that comes to such a variance in another way is repaired."""
    X, _ = rows_and_start(covariance_type, n_components=1)
    structure = STRUCTURES[covariance_type]
    labels = np.zeros(len(X), dtype=np.int64)
    for unit, is_singular in ((1e150, False), (1e155, True), (1e160, True)):
        frame = Frame(np.zeros(3), np.full(3, 2.0**-500))
        statistics = accumulate(ArrayData(X * unit), structure, frame, 1, 1, labels=labels)
        with np.errstate(over="ignore", invalid="ignore"):
            estimate = maximum_likelihood(structure, statistics, 0.0, 1)
        assert estimate.singular.tolist() == [is_singular], unit


def test_precisions_and_covariances_without_an_inverse(covariance_type):
    """What is positive, but has no number for its inverse, is refused."""
    shape = {"full": (1, 1, 1), "tied": (1, 1), "diag": (1, 1), "spherical": (1,)}[covariance_type]
    tiny = np.full(shape, 1e-310)
    start = {"weights_init": [1.0], "means_init": [[0.0]], "precisions_init": tiny}
    with pytest.raises(ValueError, match=r"overflows|reciprocals"):
        GaussianMixture(1, covariance_type=covariance_type, **start).fit(np.arange(6.0)[:, None])
    with pytest.raises(ValueError, match=r"overflows|reciprocals"):
        GaussianMixture.from_parameters([1.0], [[0.0]], tiny, covariance_type)


# -- legal, though unusual ---------------------------------------------------------------------------


def test_component_of_weight_zero(covariance_type):
    """It takes no part; the others go on as if it were not there."""
    X, (weights, means, covariances) = rows_and_start(covariance_type, n_components=2)
    _, (_, more_means, more_covariances) = rows_and_start(covariance_type, n_components=3)
    pair = weights, means, covariances
    means = np.concatenate([means, more_means[2:]])
    if covariance_type != "tied":
        covariances = np.concatenate([covariances, more_covariances[2:]])
    start = np.array([*weights, 0.0]), means, covariances
    common = {"covariance_type": covariance_type, "max_iter": 1, "tol": 0.0}
    arguments = datasets.init_arguments(covariance_type, start)
    estimator, repair_warnings = fit(GaussianMixture(3, random_state=0, **common, **arguments), X)
    assert_usable(estimator, X, repair_warnings)
    exact = oracle.em_step(X, oracle.make_model(covariance_type, *pair), 1e-6)
    np.testing.assert_allclose(estimator.means_[:2], exact.means.astype(float), rtol=1e-9, atol=1e-9)
    assert (
        abs(estimator.lower_bound_ - float(oracle.lower_bound(X, oracle.make_model(covariance_type, *pair))))
        < 1e-10
    )
    if repair_warnings:
        assert named_components(repair_warnings[0]) == [2]


def test_identical_components_stay_identical(covariance_type):
    """Duplicates share their rows evenly; there is nothing to repair."""
    X, (_weights, means, covariances) = rows_and_start(covariance_type)
    means[2] = means[0]
    if covariance_type != "tied":
        covariances[2] = covariances[0]
    start = np.array([0.3, 0.4, 0.3]), means, covariances
    result = run_em(X, covariance_type, start, 10, repair="raise")
    assert result.n_repairs == 0
    parameters = result.parameters
    assert parameters.weights[0] == parameters.weights[2]
    np.testing.assert_array_equal(parameters.means[0], parameters.means[2])
    if covariance_type != "tied":
        np.testing.assert_array_equal(parameters.covariances[0], parameters.covariances[2])
    exact, _ = oracle.em(X, oracle.make_model(covariance_type, *start), 10, 1e-6)
    assert oracle.difference(exact, parameters) <= tolerances.PARITY_PARAMETERS


@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-9, 1e-12])
def test_small_components_are_legal(covariance_type, share):
    X, (_, means, covariances) = rows_and_start(covariance_type)
    start = np.array([share, 0.5, 0.5 - share]), means, covariances
    result = run_em(X, covariance_type, start, 1, repair="raise", reg_covar=1e-3)
    exact = oracle.em_step(X, oracle.make_model(covariance_type, *start), 1e-3)
    assert result.n_repairs == 0
    assert oracle.difference(exact, result.parameters) <= 10 * tolerances.STEP_PARAMETERS


@pytest.mark.parametrize("spread", [1e-3, 1e-5, 1e-6])
def test_nearly_singular_is_legal(covariance_type, spread):
    """A covariance is left alone while it has a Cholesky factor, as scikit-learn leaves it alone."""
    X, start = rows_and_start(covariance_type)
    noise = X[:, 2] - X[:, 2].mean()
    if covariance_type in ("full", "tied"):
        X[:, 2] = X[:, 0] + spread * noise  # correlation 1 - spread^2 / 2 or so
    else:
        X[100:] *= spread  # small beside the other rows
        X[:100, 0] += 50.0
        start[1][0] = [50.0, 0.0, 0.0]
        start[1][1:] = 0.0
    arguments = datasets.init_arguments(covariance_type, start)
    common = dict(covariance_type=covariance_type, reg_covar=0.0, max_iter=3, tol=0.0, **arguments)
    assert peer_survives(Peer(3, **common), X) is not None, "the case is to be one that scikit-learn survives"
    estimator, repair_warnings = fit(GaussianMixture(3, repair="raise", **common), X)
    assert_usable(estimator, X, repair_warnings)
    exact, _ = oracle.em(X, oracle.make_model(covariance_type, *start), 3)
    ours = estimator.weights_, estimator.means_, estimator.covariances_
    # Whitening divides the rounding of a covariance by its smallest eigenvalue.
    condition = 1 / spread**2 if covariance_type in ("full", "tied") else 1.0
    assert oracle.difference(exact, ours) <= tolerances.PARITY_PARAMETERS + 1e3 * tolerances.EPS * condition


@pytest.mark.parametrize("reg_covar", [1e-6, 0.0])
def test_one_component_and_one_feature(covariance_type, reg_covar):
    X = np.array([[1.0], [2.0], [4.0]])
    estimator, repair_warnings = fit(GaussianMixture(covariance_type=covariance_type, reg_covar=reg_covar), X)
    assert repair_warnings == []
    assert float(estimator.means_[0, 0]) == pytest.approx(7 / 3, rel=1e-14)
    assert float(np.ravel(estimator.covariances_)[0]) == pytest.approx(14 / 9 + reg_covar, rel=1e-12)
    assert estimator.predict_proba(X[:1]).tolist() == [[1.0]]


def test_rows_of_weight_zero_do_not_save_a_component(covariance_type):
    """Degenerate by its weighted rows alone: the same repair with and without rows that do not count."""
    X, start = singular(covariance_type)
    spread = np.random.default_rng(0).standard_normal((50, 3))
    weights = np.concatenate([np.ones(len(X)), np.zeros(50)])
    result = run_em(
        np.concatenate([X, spread]), covariance_type, start, 1, reg_covar=0.0, sample_weight=weights
    )
    assert result.n_repairs > 0


# Ten rows share the fill value: they are told of, and that is not the matter here.
@pytest.mark.filterwarnings("ignore::fastgmm.RegularizationWarning")
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("value", [1e12, 1e16, 1e20, 9.96921e36])
def test_fill_values_leave_other_components_alone(kind, value):
    """One row in a hundred with a huge value: what scikit-learn survives is not repaired."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (500, 3)), rng.normal(4, 2, (500, 3)), rng.normal(2, 1, (10, 3))])
    X[-10:, 1] = value
    means = np.array([[0.0, 0, 0], [4, 4, 4], [2, value, 2]])
    eye = {
        "full": np.stack([np.eye(3)] * 3),
        "tied": np.eye(3),
        "diag": np.ones((3, 3)),
        "spherical": np.ones(3),
    }
    mixture = GaussianMixture(
        3, covariance_type=kind, weights_init=[0.4, 0.4, 0.2], means_init=means, precisions_init=eye[kind],
        repair="raise", max_iter=500,
    ).fit(X)  # fmt: skip
    clean = GaussianMixture(
        2, covariance_type=kind, weights_init=[0.5, 0.5], means_init=means[:2],
        precisions_init=eye[kind][:2] if kind != "tied" else eye[kind], tol=1e-8, max_iter=500,
    ).fit(X[:-10])  # fmt: skip
    assert mixture.n_repairs_ == 0
    if kind != "tied":  # whose covariance is everybody's
        np.testing.assert_allclose(mixture.means_[:2], clean.means_, atol=0.2)
    assert mixture.means_[2, 1] == pytest.approx(value, rel=1e-12)
