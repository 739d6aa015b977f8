"""Mixtures that maximise the likelihood, from a start that is given or seeded."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from . import em, seeding
from ._attributes import attributes_of_parameters
from ._estimator import MixtureEstimator
from ._parameter_validation import check_means, check_mixture_weights, check_positive_definite
from .blocks import ArrayData
from .frame import Frame
from .objective import Objective


class SeededMixture(MixtureEstimator):
    """What the mixtures share that are seeded: where they start and what they report.

    The constructor has `weights_init`, `means_init` and `precisions_init`.
    """

    weights_init: ArrayLike | None
    means_init: ArrayLike | None
    precisions_init: ArrayLike | None

    # what the last fit did
    converged_: bool
    n_iter_: int
    lower_bound_: float
    lower_bounds_: list[float]
    history_: dict[str, list[Any]]
    n_repairs_: int

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MixtureEstimator._parameter_constraints,
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
    }

    def _check_start(self, n_features: int, n_rows: int | None = None) -> dict[str, Any]:
        structure = self._structure()
        given: dict[str, Any] = {"weights": None, "means": None, "precisions": None}
        if self.weights_init is not None:
            given["weights"] = check_mixture_weights(self.weights_init, "weights_init", self._n_start())
        if self.means_init is not None:
            given["means"] = check_means(self.means_init, "means_init", self._n_start(), n_features)
        if self.precisions_init is not None:
            shape = structure.covariance_shape(self.n_components, n_features)
            given["precisions"] = check_positive_definite(
                self.precisions_init, "precisions_init", structure, shape
            )
        return given

    def _make_start(
        self,
        data: ArrayData,
        given: dict[str, Any],
        random_state: np.random.RandomState,
        options: em.EMOptions,
        frame: Frame | None,
        objective: Objective | None = None,
    ) -> seeding.Start:
        return seeding.initial_parameters(
            data,
            self._structure(),
            self._n_start(data.n_positive, data.n_features),
            init_params=self.init_params,
            options=options,
            random_state=random_state,
            frame=frame,
            objective=objective,
            **given,
        )

    def _attributes_of(self, result: em.EMResult) -> dict[str, Any]:
        return {
            **attributes_of_parameters(self._structure(), result.parameters),
            "converged_": bool(result.converged),
            "n_iter_": int(result.n_iter),
            "lower_bound_": float(result.lower_bound),
            "lower_bounds_": [float(bound) for bound in result.lower_bounds],
            "history_": result.history,
            "n_repairs_": int(result.n_repairs),
        }
