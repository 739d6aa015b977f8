"""What a Gaussian mixture is good for, on real data.

    python examples/quickstart.py

1. Segment a photograph: pixels of similar colour and place belong together.
2. Flag outliers: pixels, and handwritten digits, of low density.
3. Sample: the fitted density writes digits nobody has written.
4. Compare with scikit-learn: same start, same result, less time.

The pictures are written into examples/output.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import sklearn.mixture
from sklearn.datasets import load_digits, load_sample_image
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture

OUTPUT = Path(__file__).parent / "output"
N_SEGMENTS = 32


def pixel_features(photograph: np.ndarray) -> np.ndarray:
    """Red, green and blue in [0, 1], and the pixel's row and column: five numbers for each pixel."""
    height, width, _ = photograph.shape
    colours = photograph.reshape(-1, 3) / 255.0
    places = np.mgrid[0:height, 0:width].reshape(2, -1).T / width
    return np.hstack([colours, places])


def segment(photograph: np.ndarray) -> None:
    """Paint each pixel in the mean colour of its component; show where that is doubtful or unlikely."""
    X = pixel_features(photograph)
    shape = photograph.shape[:2]
    begin = time.perf_counter()
    model = GaussianMixture(n_components=N_SEGMENTS, random_state=0).fit(X)
    seconds = time.perf_counter() - begin
    print(f"{X.shape[0]:,} pixels in {N_SEGMENTS} segments: {seconds:.2f} s, {model.n_iter_} iterations")

    responsibilities = model.predict_proba(X)
    colours = model.means_[:, :3].clip(0, 1)
    segments = colours[responsibilities.argmax(axis=1)].reshape(photograph.shape)
    doubt = 1.0 - responsibilities.max(axis=1).reshape(shape)
    log_density = model.score_samples(X).reshape(shape)
    outliers = 0.25 * photograph / 255.0 + 0.75
    outliers[log_density < np.quantile(log_density, 0.01)] = (0.85, 0.0, 0.1)
    panels = {
        "photograph": photograph,
        f"{N_SEGMENTS} segments, each in its mean colour": segments,
        "doubt: responsibilities of all other segments": doubt,
        "outliers: the least likely 1 % of the pixels": outliers,
    }
    figure, axes = plt.subplots(2, 2, figsize=(13, 9.2), layout="constrained")
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(picture, cmap="magma")
        axis.set_title(title)
        axis.axis("off")
    figure.savefig(OUTPUT / "segmentation.png", dpi=100)


def explore_digits() -> None:
    """Fit handwritten digits; show usual ones, outliers, and new ones."""
    digits = load_digits()
    projection = PCA(n_components=0.95, random_state=0).fit(digits.data)
    X = projection.transform(digits.data)
    # Forty components for 1,797 rows: much variance on the diagonal keeps them from overfitting.
    model = GaussianMixture(n_components=40, reg_covar=0.1 * X.var(axis=0).mean(), random_state=0).fit(X)

    by_density = np.argsort(model.score_samples(X))
    outliers, usual = by_density[:18], by_density[len(X) // 2 :][:18]
    new = projection.inverse_transform(model.sample(54)[0])
    print(f"{len(X):,} digits: the least likely are rows {', '.join(map(str, outliers[:6]))}")
    rows = {
        "digits of median density": digits.data[usual],
        "outliers: digits of lowest density": digits.data[outliers],
        "new digits, sampled from the mixture": new,
    }
    figure, axes = plt.subplots(3, 1, figsize=(13, 4.5), height_ratios=[1, 1, 3], layout="constrained")
    for axis, (title, pictures) in zip(axes, rows.items(), strict=True):
        axis.imshow(mosaic(pictures.reshape(-1, 8, 8), n_columns=18), cmap="gray_r", vmin=0, vmax=16)
        axis.set_title(title, loc="left")
        axis.axis("off")
    figure.savefig(OUTPUT / "digits.png", dpi=100)


def mosaic(pictures: np.ndarray, n_columns: int) -> np.ndarray:
    """Lay small pictures out in rows, with a margin of one pixel between them."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    _, height, width = padded.shape
    return padded.reshape(-1, n_columns, height, width).swapaxes(1, 2).reshape(-1, n_columns * width)


def compare(X: np.ndarray, n_iter: int = 5) -> None:
    """Run the same number of iterations from the same start, here and in scikit-learn."""
    start = GaussianMixture(N_SEGMENTS, max_iter=0, random_state=1).fit(X)
    print(f"\n{n_iter} iterations on {X.shape[0]:,} x {X.shape[1]}, {N_SEGMENTS} components, same start")
    seconds = []
    for estimator in GaussianMixture, sklearn.mixture.GaussianMixture:
        model = estimator(
            N_SEGMENTS,
            tol=0.0,  # never converged: exactly n_iter iterations, and a warning that says so
            max_iter=n_iter,
            weights_init=start.weights_,
            means_init=start.means_,
            precisions_init=start.precisions_,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            begin = time.perf_counter()
            model.fit(X)
        seconds.append(time.perf_counter() - begin)
        library = estimator.__module__.partition(".")[0]
        print(f"  {library:8s} {seconds[-1]:7.3f} s   mean log-likelihood {model.score(X):.10f}")
    print(f"  {seconds[1] / seconds[0]:.0f} times as fast")


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    photograph = load_sample_image("flower.jpg")
    segment(photograph)
    explore_digits()
    compare(pixel_features(photograph))
    print("\npictures:", *sorted(str(path) for path in OUTPUT.glob("*.png")))


if __name__ == "__main__":
    main()
