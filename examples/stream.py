"""A mixture that follows a stream, and one that is fitted in a few passes over a file.

    python examples/stream.py

1. Pixels of one photograph arrive in batches, then those of another. `partial_fit` makes a step with each
   batch and follows; a mixture that was fitted to the first photograph stays behind.
2. `fit` reads the second photograph from a memory-mapped file, batch by batch, some epochs long; full EM
   starts from the same parameters.

The picture is written into examples/output.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture, MiniBatchGaussianMixture

OUTPUT = Path(__file__).parent / "output"
N_COMPONENTS = 16
LINES_PER_BATCH = 2  # of the photograph: 1,280 pixels


def colours(name: str) -> np.ndarray:
    """Lines of a photograph in random order, (lines, pixels, 3) in [0, 1]; noise undoes the rounding."""
    rng = np.random.default_rng(0)
    photograph = load_sample_image(name) / 255.0
    photograph += rng.uniform(0.0, 1.0 / 255.0, size=photograph.shape)
    return rng.permutation(photograph)


def batches(*photographs: np.ndarray):
    """Pixels as they arrive: some lines at a time, one photograph after the other."""
    for photograph in photographs:
        for first in range(0, len(photograph) - LINES_PER_BATCH + 1, LINES_PER_BATCH):
            yield photograph[first : first + LINES_PER_BATCH].reshape(-1, 3)


def follow(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Log-likelihood of each batch before it is learnt from, and the palette over time."""
    options = {"n_components": N_COMPONENTS, "reg_covar": 1e-5, "random_state": 0}
    stays = GaussianMixture(**options).fit(first.reshape(-1, 3))
    # steps of 1/20 at least: what was seen 100 batches ago counts half a per cent
    follows = MiniBatchGaussianMixture(**options, min_step=0.05)
    slows_down = MiniBatchGaussianMixture(**options)
    seen: dict[str, list] = {"follows": [], "slows down": [], "stays": [], "palette": []}
    for batch in batches(first, second):
        for name, mixture in {"follows": follows, "slows down": slows_down, "stays": stays}.items():
            known = hasattr(mixture, "means_")
            seen[name].append(mixture.score(batch) if known else np.nan)
        follows.partial_fit(batch)
        slows_down.partial_fit(batch)
        seen["palette"].append(palette(follows))
    print(
        f"{follows.n_steps_} batches of {len(batch):,} pixels; then on all pixels of the second photograph:"
    )
    X = second.reshape(-1, 3)
    for name, mixture in {
        "partial_fit, min_step=0.05": follows,
        "partial_fit, steps that shrink": slows_down,
        "fitted to the first": stays,
        "fitted to the second": GaussianMixture(**options).fit(X),
    }.items():
        print(f"  {name:32s} mean log-likelihood {mixture.score(X):8.3f}")
    return {name: np.array(values) for name, values in seen.items()}


def palette(mixture: MiniBatchGaussianMixture, n: int = 200) -> np.ndarray:
    """n colours: the components' means, each as often as its weight says."""
    edges = np.cumsum(mixture.weights_)
    places = np.searchsorted(edges, (np.arange(n) + 0.5) / n * edges[-1])
    return mixture.means_[places].clip(0, 1)


def epochs(photograph: np.ndarray, n_epochs: int = 6) -> dict[str, list[float]]:
    """Mean log-likelihood after 1, 2, ... passes of stepwise and of full EM over a file of the pixels."""
    scores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "pixels.npy", photograph.reshape(-1, 3))
        X = np.load(Path(folder) / "pixels.npy", mmap_mode="r")
        start = GaussianMixture(N_COMPONENTS, init_params="random_from_data", reg_covar=1e-3, random_state=3)
        start.set_params(max_iter=0).fit(X)
        options = {
            "n_components": N_COMPONENTS,
            "reg_covar": 1e-5,
            "weights_init": start.weights_,
            "means_init": start.means_,
            "precisions_init": start.precisions_,
            "tol": 0.0,
            "random_state": 0,
        }
        for estimator in MiniBatchGaussianMixture, GaussianMixture:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                scores[estimator.__name__] = [
                    estimator(**options, max_iter=n).fit(X).score(X) for n in range(1, n_epochs + 1)
                ]
        del X  # the file is closed before its folder goes away
    for name, values in scores.items():
        print(f"  {name:26s} {' '.join(f'{value:.3f}' for value in values)}")
    return scores


def draw(stream: dict[str, np.ndarray], scores: dict[str, list[float]]) -> None:
    figure, axes = plt.subplots(3, 1, figsize=(10, 11), height_ratios=[3, 2, 3], layout="constrained")
    labels = {
        "follows": "partial_fit, min_step=0.05",
        "slows down": "partial_fit, steps that shrink",
        "stays": "fitted to the first photograph",
    }
    for name, label in labels.items():
        axes[0].plot(stream[name], label=label, linewidth=1)
    change = len(stream["follows"]) // 2
    axes[0].axvline(change, color="grey", linestyle=":")
    axes[0].set_ylim(bottom=-5)
    axes[0].set_title("Pixels of china.jpg, then of flower.jpg: each batch before it is learnt from")
    axes[0].set_ylabel("mean log-likelihood")
    axes[0].legend(loc="lower left")
    axes[1].imshow(
        stream["palette"].swapaxes(0, 1), aspect="auto", origin="lower", extent=(0, 2 * change, 0, 1)
    )
    axes[1].set_title(
        "Components of the mixture that follows: colours by their means, heights by their weights"
    )
    axes[1].set_xlabel("batch")
    axes[1].set_yticks([])
    axes[0].set_xlim(axes[1].get_xlim())
    for name, values in scores.items():
        axes[2].plot(np.arange(1, len(values) + 1), values, marker="o", label=name)
    axes[2].set_title(
        "flower.jpg from a file: all pixels under the parameters after so many passes, from the same start"
    )
    axes[2].set_xlabel("passes over the rows made")
    axes[2].set_ylabel("mean log-likelihood")
    axes[2].legend(loc="lower right")
    figure.savefig(OUTPUT / "stream.png", dpi=100)


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    first, second = colours("china.jpg"), colours("flower.jpg")
    stream = follow(first, second)
    print("mean log-likelihood after 1, 2, ... passes over flower.jpg:")
    draw(stream, epochs(second))
    print("picture:", OUTPUT / "stream.png")


if __name__ == "__main__":
    main()
