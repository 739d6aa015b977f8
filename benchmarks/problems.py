"""The public benchmark problems and the common start of every comparison.

Each problem is a function of its name alone: seeds are fixed and the photographs come with scikit-learn
(reading them needs pillow). All data are float64 and C-contiguous.

    python benchmarks/problems.py          # prints the table of problems
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


class Problem(NamedTuple):
    """A data set and the number of components to fit to it."""

    name: str
    X: np.ndarray  # (N, D)
    n_components: int


class Start(NamedTuple):
    """Parameters every library starts from, in the shapes scikit-learn uses for the covariance type."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    precisions: np.ndarray
    reg_covar: float


def synth(n_rows: int, n_features: int, n_components: int, separation: float, seed: int) -> np.ndarray:
    """Draw rows of a mixture of ``n_components`` correlated Gaussians with uniform labels."""
    return labelled_synth(n_rows, n_features, n_components, separation, seed)[0]


def labelled_synth(
    n_rows: int, n_features: int, n_components: int, separation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that `synth` draws, and their labels.

    The means are N(0, separation^2) in every feature; component k maps N(0, I) through I + G_k / sqrt(D),
    where the entries of G_k are standard normal.
    """
    rng = np.random.default_rng(seed)
    means = rng.normal(scale=separation, size=(n_components, n_features))
    maps = np.eye(n_features) + rng.normal(size=(n_components, n_features, n_features)) / np.sqrt(n_features)
    labels = rng.integers(n_components, size=n_rows)
    X = rng.normal(size=(n_rows, n_features))
    for k in range(n_components):
        rows = labels == k
        X[rows] = X[rows] @ maps[k].T + means[k]
    return X, labels


def photograph(name: str) -> np.ndarray:
    """Return a photograph of scikit-learn as float64 in [0, 1], shape (height, width, 3)."""
    from sklearn.datasets import load_sample_image

    return load_sample_image(name) / 255.0


def pixels() -> np.ndarray:
    """Colours of china.jpg, with the rounding to 256 levels undone by uniform noise of one level."""
    colours = photograph("china.jpg").reshape(-1, 3)
    return colours + np.random.default_rng(0).uniform(0.0, 1.0 / 255.0, size=colours.shape)


def patches() -> np.ndarray:
    """8 x 8 windows of the grey flower.jpg, every fifth, each minus its own mean, plus a little noise."""
    grey = photograph("flower.jpg").mean(axis=2)
    windows = np.lib.stride_tricks.sliding_window_view(grey, (8, 8)).reshape(-1, 64)[::5]
    noise = np.random.default_rng(0).normal(scale=1e-3, size=windows.shape)
    return windows - windows.mean(axis=1, keepdims=True) + noise


# name: (data, rows, features, components); a synthetic problem is drawn at its size, a photograph is thinned.
_SYNTHETIC = {
    "plane-1m": (1_000_000, 2, 4, 3.0, 101),
    "tabular-d8": (200_000, 8, 8, 1.0, 102),
    "tabular-d16": (100_000, 16, 16, 2.0, 103),
    "overlap-d16": (50_000, 16, 32, 1.0, 104),
    "separated-d32": (50_000, 32, 32, 3.0, 105),
    "separated-d64": (20_000, 64, 64, 3.0, 106),
}
_PHOTOGRAPHIC: dict[str, tuple[Callable[[], np.ndarray], int]] = {
    "pixels-k16": (pixels, 16),
    "pixels-k64": (pixels, 64),
    "patches-k32": (patches, 32),
    "patches-k128": (patches, 128),
}
NAMES = (
    "plane-1m", "pixels-k16", "pixels-k64", "tabular-d8", "tabular-d16",
    "overlap-d16", "separated-d32", "patches-k32", "patches-k128", "separated-d64",
)  # fmt: skip


def load(name: str, scale: float = 1.0) -> Problem:
    """Return the problem ``name``.

    Parameters
    ----------
    name : str
        One of ``NAMES``.
    scale : float, default=1.0
        Share of the rows to keep, for quick runs; never fewer than ten rows for each component and feature.
        Results at other scales than 1 are not comparable with published ones.
    """
    if name in _SYNTHETIC:
        n_rows, n_features, n_components, separation, seed = _SYNTHETIC[name]
        n_kept = _kept(n_rows, scale, n_components, n_features)
        return Problem(name, synth(n_kept, n_features, n_components, separation, seed), n_components)
    if name not in _PHOTOGRAPHIC:
        raise ValueError(f"unknown problem {name!r}; choose from {', '.join(NAMES)}")
    make, n_components = _PHOTOGRAPHIC[name]
    X = make()
    n_kept = _kept(X.shape[0], scale, n_components, X.shape[1])
    if n_kept < X.shape[0]:
        X = X[np.random.default_rng(0).permutation(X.shape[0])[:n_kept]]
    return Problem(name, np.ascontiguousarray(X), n_components)


def _kept(n_rows: int, scale: float, n_components: int, n_features: int) -> int:
    return min(n_rows, max(int(n_rows * scale), 10 * n_components, 10 * n_features))


def start(X: np.ndarray, n_components: int, covariance_type: str) -> Start:
    """Return the common start of "equal iterations".

    ``n_components`` rows (seed 1) are the centres; each row goes to the nearest one in units of the
    features' standard deviations; the clusters' weights, means and covariances follow, with 1e-3 of the
    mean variance added to the diagonal. That value is also the ``reg_covar`` of the fit.
    """
    n_rows, n_features = X.shape
    labels = _nearest(X, X[np.random.default_rng(1).choice(n_rows, n_components, replace=False)])
    counts = np.bincount(labels, minlength=n_components).astype(float)
    reg_covar = 1e-3 * float(X.var(axis=0).mean())
    weights = counts / n_rows
    means = np.empty((n_components, n_features))
    full = np.empty((n_components, n_features, n_features))
    for k in range(n_components):
        rows = X[labels == k]
        means[k] = rows.mean(axis=0)
        centred = rows - means[k]
        full[k] = centred.T @ centred / counts[k]
    ridge = reg_covar * np.eye(n_features)
    diagonal = np.einsum("kii->ki", full) + reg_covar
    if covariance_type == "full":
        covariances = full + ridge
        precisions = np.linalg.inv(covariances)
        precisions = (precisions + precisions.transpose(0, 2, 1)) / 2
    elif covariance_type == "tied":
        covariances = np.einsum("k,kij->ij", weights, full) + ridge
        precisions = np.linalg.inv(covariances)
        precisions = (precisions + precisions.T) / 2
    elif covariance_type == "diag":
        covariances = diagonal
        precisions = 1.0 / covariances
    elif covariance_type == "spherical":
        covariances = diagonal.mean(axis=1)
        precisions = 1.0 / covariances
    else:
        raise ValueError(f"unknown covariance type {covariance_type!r}")
    return Start(weights, means, covariances, precisions, reg_covar)


def _nearest(X: np.ndarray, centres: np.ndarray) -> np.ndarray:
    scale = X.std(axis=0)
    scaled_centres = centres / scale
    offsets = 0.5 * (scaled_centres**2).sum(axis=1)
    labels = np.empty(X.shape[0], dtype=np.intp)
    for begin in range(0, X.shape[0], 16384):
        rows = slice(begin, begin + 16384)
        labels[rows] = (offsets - (X[rows] / scale) @ scaled_centres.T).argmin(axis=1)
    return labels


if __name__ == "__main__":
    for problem_name in NAMES:
        problem = load(problem_name)
        rows, features = problem.X.shape
        print(f"{problem_name:14s} N={rows:9,d} D={features:3d} K={problem.n_components}")
