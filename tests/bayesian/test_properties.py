"""The bound never decreases; and what must not change a fit, or change it in a known way."""

from __future__ import annotations

from typing import Any, NamedTuple

import bayesian_fits as fits
import numpy as np
import pytest
import tolerances
import variational_oracle as oracle
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from variational_oracle import DISTRIBUTION, KINDS

# The bound is a sum of N terms or so and of K (D + 1) more, each rounded; of as many digits as it has, and as
# what it is summed from has.
ROUNDING = 1e-11
EXAMPLES, THOROUGH = 250, 5000
FEW, THOROUGH_FEW = 10, 400


def examples(few: int, many: int, thorough: bool) -> Any:
    """Settings of so many examples, the same in every run."""
    return settings(
        max_examples=many if thorough else few, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


class Case(NamedTuple):
    seed: int
    n_rows: int
    n_features: int
    n_components: int
    kind: str
    weighted: str
    duplicates: bool
    log_scale: float
    log_origin: float
    given: bool
    logs: tuple[float, float, float, float]

    def rows(self):
        X = fits.rows_of(self.n_rows, self.n_features, self.seed)
        if self.duplicates:
            X = X[np.random.default_rng(self.seed).integers(max(1, self.n_rows // 3), size=self.n_rows)]
            X[0] += 1.0  # else a covariance of 0 could be asked for
        return 10.0**self.log_scale * (X + np.sign(self.log_origin) * 10.0 ** abs(self.log_origin))

    def weight(self):
        rng = np.random.default_rng(self.seed + 1)
        weight = {
            "none": None,
            "counts": rng.integers(0, 4, self.n_rows).astype(float),
            "shares": rng.uniform(0, 2, self.n_rows),
        }[self.weighted]
        if weight is not None:
            weight[: self.n_components + 1] += 1.0
        return weight

    def prior(self, covariance_type, X) -> dict[str, Any]:
        """Priors over many orders of magnitude, about the rows."""
        if not self.given:
            return {}
        concentration, precision, dof, width = (10.0**value for value in self.logs)
        D, rng = self.n_features, np.random.default_rng(self.seed + 2)
        unit = 10.0**self.log_scale
        options = fits.given_prior(D, covariance_type, self.seed)
        return {
            "weight_concentration_prior": concentration,
            "mean_precision_prior": precision,
            "mean_prior": X.mean(axis=0) + 3 * unit * rng.standard_normal(D),
            "degrees_of_freedom_prior": D - 1 + dof,
            "covariance_prior": np.asarray(options["covariance_prior"]) * (unit * width) ** 2
            if covariance_type != "spherical"
            else 0.7 * (unit * width) ** 2,
        }

    def options(self, covariance_type, X) -> dict[str, Any]:
        return {
            "n_components": self.n_components,
            "covariance_type": covariance_type,
            "weight_concentration_prior_type": self.kind,
            "responsibilities_init": fits.random_responsibilities(self.n_rows, self.n_components, self.seed),
            "reg_covar": 0.0,
            "max_iter": 5,
            "n_jobs": 1,
            **self.prior(covariance_type, X),
        }


def cases(kinds=KINDS, most_orders=4.0, least_rows=2, scales=6.0, weighted=("none", "counts", "shares")):
    orders = st.floats(-most_orders, most_orders)
    return st.builds(
        Case,
        seed=st.integers(0, 10**6),
        n_rows=st.integers(least_rows, 60),
        n_features=st.integers(1, 5),
        n_components=st.integers(1, 8),
        kind=st.sampled_from(kinds),
        weighted=st.sampled_from(weighted),
        duplicates=st.booleans(),
        log_scale=st.floats(-scales, scales),
        log_origin=st.floats(-scales, scales),
        given=st.booleans(),
        logs=st.tuples(orders, orders, st.floats(-2, most_orders), st.floats(-2, 2)),
    ).filter(
        lambda case: case.n_rows > case.n_components and (case.given or case.n_rows > 2 * case.n_features)
    )


# -- the bound -------------------------------------------------------------------------------------


def test_the_bound_never_decreases(covariance_type, thorough):
    fell, n_repaired, n_cases = [], 0, 0

    @seed(0)
    @examples(EXAMPLES, THOROUGH, thorough)
    @given(case=cases())
    def run(case):
        nonlocal n_repaired, n_cases
        X = case.rows()
        mixture = fits.fitted(X, case.weight(), when_repaired="ignore", **case.options(covariance_type, X))
        n_cases += 1
        if mixture.n_repairs_:
            n_repaired += 1
            return
        bounds = np.array(mixture.lower_bounds_)
        assert np.isfinite(bounds).all()
        size = np.abs(bounds).max() + case.n_components * 10.0 ** max(case.logs[2], 0.0) * case.given
        # means are rounded where they are, and the bound is known no better than they are
        far = 10.0 ** abs(case.log_origin) * 10.0 ** max(-case.logs[3], 0) * tolerances.EPS
        allowed = ROUNDING * max(1.0, size) + 100 * case.n_rows * case.n_features * far
        assert (np.diff(bounds) >= -allowed).all(), (np.diff(bounds).min(), allowed)
        fell.append(np.diff(bounds).min(initial=0.0) < 0)

    run()
    assert n_repaired < n_cases / 5
    assert n_cases >= EXAMPLES


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_all_covariance_types_but_full_are_lower(kind):
    """Of the same responsibilities and prior: the others restrict the posterior of the same model."""
    X = fits.rows_of(70, 3, seed=1)
    start = fits.random_responsibilities(70, 3)
    prior = {**fits.given_prior(3, "spherical"), "covariance_prior": np.eye(3)}
    shapes = {"full": np.eye(3), "tied": np.eye(3), "diag": np.ones(3), "spherical": 1.0}
    q = oracle.posterior(
        X, start, oracle.prior_of(
            fits.fitted(X, n_components=3, weight_concentration_prior_type=kind, max_iter=0, **prior)
        ), "full",
    )  # fmt: skip
    bounds = {}
    for covariance_type, shape in shapes.items():
        mixture = fits.fitted(
            X, n_components=3, covariance_type=covariance_type, weight_concentration_prior_type=kind,
            responsibilities_init=start, max_iter=0, **{**prior, "covariance_prior": shape},
        )  # fmt: skip
        bounds[covariance_type] = oracle.evidence(
            X, start, oracle.posterior_of(mixture), oracle.prior_of(mixture)
        )
    assert bounds["full"] == pytest.approx(oracle.evidence(X, start, q, oracle.prior_of(mixture)), rel=1e-7)
    assert bounds["full"] > max(bounds["tied"], bounds["diag"])
    assert bounds["diag"] > bounds["spherical"]


# -- what must not change a fit --------------------------------------------------------------------


def assert_same_posterior(first, second, tolerance=tolerances.SAME_FIT * 10):
    """`second` as `first`, but for what rounding makes of it."""
    assert oracle.difference(oracle.posterior_of(first), oracle.posterior_of(second)) <= tolerance
    np.testing.assert_allclose(second.lower_bounds_, first.lower_bounds_, rtol=tolerance, atol=tolerance)


ORDINARY = {"most_orders": 1.5, "scales": 1.0, "least_rows": 20}


def check(covariance_type, thorough, compare, **which):
    """Calls `compare` for cases without repairs: with the case, rows, weights, options and mixture."""
    n_cases = 0

    @seed(0)
    @examples(FEW, THOROUGH_FEW, thorough)
    @given(case=cases(**{**ORDINARY, **which}))
    def run(case):
        nonlocal n_cases
        X, weight = case.rows(), case.weight()
        options = {**case.options(covariance_type, X), "max_iter": 4}
        mixture = fits.fitted(X, weight, when_repaired="ignore", **options)
        if not mixture.n_repairs_:
            n_cases += 1
            compare(case, X, weight, options, mixture)

    run()
    assert n_cases > FEW / 2


def test_the_order_of_components(covariance_type, thorough):
    def compare(case, X, weight, options, mixture):
        order = np.random.default_rng(case.seed).permutation(case.n_components)
        start = options["responsibilities_init"][:, order]
        other = fits.fitted(X, weight, **{**options, "responsibilities_init": start})
        q = oracle.posterior_of(mixture)
        moved = oracle.Posterior(*(part[order] for part in q))
        assert oracle.difference(moved, oracle.posterior_of(other)) <= 10 * tolerances.SAME_FIT
        np.testing.assert_allclose(other.lower_bounds_, mixture.lower_bounds_, rtol=1e-9, atol=1e-9)

    check(covariance_type, thorough, compare, kinds=[DISTRIBUTION])


def test_the_order_of_rows(covariance_type, thorough):
    def compare(case, X, weight, options, mixture):
        order = np.random.default_rng(case.seed).permutation(case.n_rows)
        start = options["responsibilities_init"][order]
        weight = None if weight is None else weight[order]
        other = fits.fitted(X[order], weight, **{**options, "responsibilities_init": start})
        assert_same_posterior(mixture, other)

    check(covariance_type, thorough, compare)


def test_counts_of_rows(covariance_type, thorough):
    def compare(case, X, weight, options, mixture):
        counts = weight.astype(int)
        start = np.repeat(options["responsibilities_init"], counts, axis=0)
        other = fits.fitted(np.repeat(X, counts, axis=0), **{**options, "responsibilities_init": start})
        assert_same_posterior(mixture, other)
        for name in fits.PRIOR:
            np.testing.assert_allclose(getattr(other, name), getattr(mixture, name), rtol=1e-9, atol=1e-9)

    check(covariance_type, thorough, compare, weighted=["counts"])


def test_units_and_origin(covariance_type, thorough):
    """The prior in the same units: posterior and bound follow (by N D logarithms of the unit)."""

    def compare(case, X, weight, options, mixture):
        rng = np.random.default_rng(case.seed)
        unit, shift = 10.0 ** rng.uniform(-6, 6), 100 * rng.standard_normal(case.n_features)
        changed = dict(options)
        if case.given:
            changed["mean_prior"] = unit * (options["mean_prior"] + shift)
            changed["covariance_prior"] = unit**2 * options["covariance_prior"]
        other = fits.fitted(unit * (X + shift), weight, **changed)
        q, moved = oracle.posterior_of(mixture), oracle.posterior_of(other)
        back = moved._replace(
            means=moved.means / np.longdouble(unit) - shift,
            inverse_scales=moved.inverse_scales / np.longdouble(unit) ** 2,
        )
        spread = np.sqrt(min(float(m.diagonal().min() / n) for m, n in zip(q.inverse_scales, q.dof)))
        rounding = tolerances.EPS * 1000 * (1 + np.abs(X).max() + np.abs(shift).max()) / spread
        assert oracle.difference(q, back) <= 10 * tolerances.SAME_FIT + 100 * rounding
        n = case.n_rows if weight is None else weight.sum()
        expected = np.array(mixture.lower_bounds_) - n * case.n_features * np.log(unit)
        size = 1e-9 + 100 * rounding
        np.testing.assert_allclose(
            other.lower_bounds_, expected, rtol=size, atol=size * n * case.n_features * 20
        )

    check(covariance_type, thorough, compare)


def test_rows_of_weight_zero(covariance_type, thorough):
    def compare(case, X, weight, options, mixture):
        weight = np.ones(len(X)) if weight is None else weight
        start = np.concatenate([options["responsibilities_init"]] * 2)
        options = {**options, "responsibilities_init": start}
        other = fits.fitted(np.concatenate([X, X + 1e3]), np.concatenate([weight, 0 * weight]), **options)
        assert_same_posterior(mixture, other)

    check(covariance_type, thorough, compare)


# -- bits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init_params", ["kmeans", "random"])
def test_threads(covariance_type, init_params):
    X = fits.rows_of(30_000, 4, seed=9)
    options = {
        "n_components": 6,
        "covariance_type": covariance_type,
        "init_params": init_params,
        "max_iter": 3,
    }
    reference = fits.fitted(X, n_jobs=1, **options)
    for n_jobs in (2, 3):
        mixture = fits.fitted(X, n_jobs=n_jobs, **options)
        assert fits.bits_of(mixture) == fits.bits_of(reference)
        for kwargs in ({}, {"predictive": True}):
            found, expected = (m.score_samples(X, **kwargs) for m in (mixture, reference))
            np.testing.assert_array_equal(found, expected)


def test_storage(covariance_type):
    X = fits.rows_of(900, 3, seed=10).astype(np.float32)
    options = {"n_components": 4, "covariance_type": covariance_type, "init_params": "random", "max_iter": 5}
    bits = fits.bits_of(fits.fitted(X, **options))
    for other in (X.astype(float), np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X[::-1][::-1]):
        assert fits.bits_of(fits.fitted(other, **options)) == bits


def test_again(covariance_type):
    X = fits.rows_of(500, 2, seed=11)
    options = {"n_components": 4, "covariance_type": covariance_type, "n_init": 2}
    assert fits.bits_of(fits.fitted(X, **options)) == fits.bits_of(fits.fitted(X, **options))
