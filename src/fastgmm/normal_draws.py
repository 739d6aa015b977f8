"""Rows drawn from normal distributions: NumPy's own draws where they are right, the same in any units.

NumPy takes a factor of the covariance from its singular values, whose errors are a share of the largest
variance. Where the units of features differ by more than some 1e7, that is more than the smallest variance.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from ._typing import BoolArray, FloatArray, LabelArray

EPSILON = float(np.finfo(np.float64).eps)
# NumPy's draws stand where no direction has a variance that is off by more than this share: no sample of less
# than some ten thousand rows could tell.
LARGEST_DEVIATION = 0.01
# Of correlations so near to singular that no factor keeps that: no entry may be off by more than this.
LARGEST_ERROR = 1e-6
# Negative eigenvalues of a correlation matrix, as a share of its largest: so much may be rounding, also that
# of float32 in many features.
LARGEST_NEGATIVE = 1e-4


def draw_rows(
    rng: np.random.RandomState,
    n: int,
    weights: FloatArray,
    means: FloatArray,
    covariances: FloatArray,
    covariance_type: str,
) -> tuple[FloatArray, LabelArray]:
    """n rows of a mixture, (n, D), grouped by component, and their components, (n,): scikit-learn's draws.

    Raises
    ------
    ValueError
        If a covariance cannot be one; nothing has been drawn then.
    """
    K, D = means.shape
    matrices = covariance_type in ("full", "tied")
    factors: list[FloatArray | None]
    if covariance_type == "tied":
        factors = [factor_of(covariances, "covariances_")] * K
        covariances = np.broadcast_to(covariances, (K, D, D))
    elif matrices:
        factors = [factor_of(covariance, f"covariances_[{k}]") for k, covariance in enumerate(covariances)]
    else:
        check_variances(covariances, "covariances_")
        factors = [np.sqrt(covariance) for covariance in covariances]
    counts = rng.multinomial(n, weights)
    blocks = []
    for mean, covariance, factor, count in zip(means, covariances, factors, counts):
        if factor is None:
            rows = rng.multivariate_normal(mean, covariance, int(count), check_valid="ignore")
        else:
            rows = rng.standard_normal((count, D))
            rows = mean + (rows @ factor if matrices else rows * factor)
        blocks.append(rows)
    return np.vstack(blocks), np.repeat(np.arange(K, dtype=np.int64), counts)


def factor_of(covariance: FloatArray, name: str) -> FloatArray | None:
    """A with A' A = covariance (D, D), by which standard normal rows are multiplied; None: NumPy's will do.

    Raises
    ------
    ValueError
        If it is no covariance: not finite, or not positive semi-definite by more than rounding.
    """
    variances = np.diagonal(covariance)
    check_variances(variances, name)
    if not np.isfinite(covariance).all():
        raise ValueError(f"{name} contains NaN or infinity; parameters must be finite.")
    spread = np.sqrt(variances)
    unit = np.where(spread > 0, spread, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        correlation = covariance / unit[:, None] / unit
        correlation = correlation / 2 + correlation.T / 2
    np.fill_diagonal(correlation, 1.0)
    try:
        root = np.linalg.cholesky(correlation)
        whitener = solve_triangular(root, np.eye(len(root)), lower=True)
    except np.linalg.LinAlgError:
        return _factor_of_singular(covariance, correlation, spread, name)
    if not len(root) * EPSILON * (whitener**2).sum() <= LARGEST_DEVIATION:
        return _factor_of_singular(covariance, correlation, spread, name)
    if _numpy_is_right(covariance, whitener / unit, spread == 0):
        return None
    return np.ascontiguousarray((root * spread[:, None]).T)


def check_variances(variances: FloatArray, name: str) -> None:
    """Refuse variances that are negative or not finite."""
    bad = np.argwhere(~((variances >= 0) & (variances < np.inf)))
    if len(bad):
        place = tuple(bad[0])
        raise ValueError(f"{name} has the variance {variances[place]}; it must be finite and not negative.")


def _numpy_is_right(covariance: FloatArray, whitener: FloatArray, constant: BoolArray) -> bool:
    """Whether NumPy's factor A has a whitened A' A within LARGEST_DEVIATION of 1.

    whitener : W with W covariance W' = 1, (D, D)
    constant : (D,) features without variance, for which 0 is right
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if not constant.any():
            # what its error cannot be more than, whitened, which spares another decomposition
            error = len(whitener) * EPSILON * np.trace(covariance) + np.linalg.norm(covariance - covariance.T)
            if error * (whitener**2).sum() <= LARGEST_DEVIATION:
                return True
        factor = _numpy_factor(covariance)
        white = whitener @ factor.T
        deviation = np.abs(white @ white.T - np.diag(~constant)).sum(axis=1).max()
    return bool(deviation <= LARGEST_DEVIATION) and not factor[:, constant].any()


def _factor_of_singular(
    covariance: FloatArray, correlation: FloatArray, spread: FloatArray, name: str
) -> FloatArray | None:
    """As `factor_of`, of a correlation matrix that has no Cholesky factor."""
    finite = np.isfinite(correlation).all()
    values, vectors = np.linalg.eigh(correlation if finite else np.eye(len(spread)))
    if not finite or values[0] < -LARGEST_NEGATIVE * values[-1]:
        least = values[0] if finite else -np.inf
        raise ValueError(
            f"{name} is not positive semi-definite: the smallest eigenvalue of its correlation matrix is "
            f"{least:.3g}."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = _numpy_factor(covariance)
        error = np.abs(theirs.T @ theirs - covariance)
        if (error <= LARGEST_ERROR * spread[:, None] * spread).all():
            return None
    return np.ascontiguousarray((vectors * np.sqrt(np.maximum(values, 0.0))).T * spread)


def _numpy_factor(covariance: FloatArray) -> FloatArray:
    """The factor that numpy.random.RandomState.multivariate_normal multiplies by."""
    _, squares, rows = np.linalg.svd(covariance)
    return np.asarray(np.sqrt(squares)[:, None] * rows)
