"""Fewer passes: Anderson acceleration of the EM map (Walker and Ni 2011; Henderson and Varadhan 2019).

EM maps parameters x to g(x); near the optimum the residuals g(x) - x shrink by a constant factor per step,
which is close to 1 where components overlap. The next point is the combination of the last few g(x) whose
residuals, combined alike, are smallest. It costs no pass of its own. Points are vectors in which every value
is legal: log-weights, means in the frame, logarithms of Cholesky factors' diagonals (Structure.to_vector).
"""

from __future__ import annotations

import numpy as np

from ._typing import FloatArray
from .frame import Frame
from .parameters import Parameters
from .structures import Structure

# Residuals that are combined. With more of them steps are bolder and are taken back more often.
MEMORY = 5
# Directions of residuals that are smaller than this beside the largest carry rounding errors only.
SMALLEST_DIRECTION = 1e-8


class Anderson:
    """Proposes where the next pass looks, and takes back what it proposed where that was worse."""

    def __init__(self, structure: Structure, frame: Frame) -> None:
        self.structure, self.frame = structure, frame
        self.residuals: list[FloatArray] = []
        self.images: list[FloatArray] = []
        self.fallback: Parameters | None = None  # EM's own step, while the one that was taken is on trial

    @property
    def on_trial(self) -> bool:
        """Whether the last step was not EM's own."""
        return self.fallback is not None

    def take_back(self) -> Parameters:
        """EM's own step instead of the one taken, and nothing remembered."""
        assert self.fallback is not None
        parameters = self.fallback
        self.restart()
        return parameters

    def restart(self) -> None:
        """Forget all."""
        self.residuals.clear()
        self.images.clear()
        self.fallback = None

    def plain(self) -> None:
        """The step to come is EM's own."""
        self.fallback = None

    def state(self) -> dict[str, FloatArray]:
        """What is remembered."""
        arrays = {}
        if self.residuals:
            arrays = {"residuals": np.array(self.residuals), "images": np.array(self.images)}
        if self.fallback is not None:
            arrays |= {f"fallback.{name}": values for name, values in self.fallback._asdict().items()}
        return arrays

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Go on from a state."""
        self.restart()
        self.residuals.extend(arrays.get("residuals", ()))
        self.images.extend(arrays.get("images", ()))
        if "fallback.weights" in arrays:
            self.fallback = Parameters(**{name: arrays[f"fallback.{name}"] for name in Parameters._fields})

    def step(self, before: Parameters, after: Parameters) -> Parameters:
        """Where to go from `before`, whose EM step leads to `after`."""
        self.fallback = None
        if not ((before.weights > 0).all() and (after.weights > 0).all()):
            self.restart()
            return after
        with np.errstate(all="ignore"):  # what leaves the range of numbers is found, and is no step
            return self._bold_step(before, after)

    def _bold_step(self, before: Parameters, after: Parameters) -> Parameters:
        """The combination of images whose residuals are smallest; `after` where there is none to be had."""
        try:
            x, g = (self.structure.to_vector(p, self.frame) for p in (before, after))
            if not (np.isfinite(x).all() and np.isfinite(g).all()):
                raise ValueError("LAPACK must not see what is not finite")
            self.residuals.append(g - x)
            self.images.append(g)
            del self.residuals[: -MEMORY - 1], self.images[: -MEMORY - 1]
            if len(self.residuals) < 2:
                return after
            differences = np.diff(np.array(self.residuals), axis=0).T
            share = np.linalg.lstsq(differences, self.residuals[-1], rcond=SMALLEST_DIRECTION)[0]
            point = g - np.diff(np.array(self.images), axis=0).T @ share
            parameters = self.structure.from_vector(point, after, self.frame)
            if not np.isfinite(parameters.means).all():
                raise ValueError("a step beyond the range of numbers")
        except (ValueError, np.linalg.LinAlgError):  # a covariance on the edge of what can be factorised
            self.restart()
            return after
        self.fallback = after
        return parameters
