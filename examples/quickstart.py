"""What a Gaussian mixture is good for, on real data.

    python examples/quickstart.py

1. Segment a photograph: pixels of similar colour and place belong together.
2. Flag outliers: pixels, and handwritten digits, of lower density than nearly all that the fit has not seen.
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

from fastgmm import GaussianMixture, RegularizationWarning

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
    # some pixels are held out, for a threshold below which a known share of new ones falls
    held_out = np.random.default_rng(0).random(len(X)) < 0.1
    model = GaussianMixture(n_components=N_SEGMENTS, random_state=0).fit(X[~held_out])
    seconds = time.perf_counter() - begin
    n_fitted = len(X) - held_out.sum()
    print(f"{n_fitted:,} pixels in {N_SEGMENTS} segments: {seconds:.2f} s, {model.n_iter_} iterations")

    responsibilities = model.predict_proba(X)
    colours = model.means_[:, :3].clip(0, 1)
    segments = colours[responsibilities.argmax(axis=1)].reshape(photograph.shape)
    doubt = 1.0 - responsibilities.max(axis=1).reshape(shape)
    log_density = model.score_samples(X).reshape(shape)
    outliers = 0.25 * photograph / 255.0 + 0.75
    threshold = np.quantile(log_density.ravel()[held_out], 0.01)
    outliers[log_density < threshold] = (0.85, 0.0, 0.1)
    panels = {
        "photograph": photograph,
        f"{N_SEGMENTS} segments, each in its mean colour": segments,
        "doubt between segments: responsibilities of all others": doubt,
        "outliers: below 99 % of the pixels that were held out": outliers,
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
    fitted, held_out, new = np.split(np.random.default_rng(0).permutation(len(X)), [1000, 1400])
    # Forty components for 1,000 rows: much variance on the diagonal keeps them from overfitting. A fit warns
    # that it shapes the densities; here that is what it is for.
    reg_covar = 0.1 * X.var(axis=0).mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RegularizationWarning)
        model = GaussianMixture(n_components=40, reg_covar=reg_covar, random_state=0).fit(X[fitted])

    scores = model.score_samples(X)
    print(f"alarm for 5 % of digits: what share of {len(new)} new ones falls below the threshold")
    for name, of in {"that were fitted": fitted, "that were held out": held_out}.items():
        alarms = scores[new] < np.quantile(scores[of], 0.05)
        print(f"  quantile of digits {name:18s} {alarms.mean():4.0%}")
    new = new[np.argsort(scores[new])]
    outliers, usual = new[:18], new[len(new) // 2 :][:18]
    drawn = projection.inverse_transform(model.sample(54)[0])
    rows = {
        "new digits of median density": digits.data[usual],
        "outliers: new digits of lowest density": digits.data[outliers],
        "digits nobody has written, sampled from the mixture": drawn,
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
