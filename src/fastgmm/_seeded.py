"""Mixtures that maximise the likelihood, from a start that is given or seeded."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from . import em, rows, seeding
from ._criteria import CriteriaMixin
from ._estimator import MixtureEstimator
from ._fitted import IN_BLOCKS
from ._validation import (
    FloatArray,
    array_request,
    check_means,
    check_mixture_weights,
    check_positive_definite,
    explained_memory_error,
)
from .blocks import ArrayData
from .frame import Frame
from .parameters import Parameters


class SeededMixture(CriteriaMixin, MixtureEstimator):
    """What `GaussianMixture` and `MiniBatchGaussianMixture` share: where they start and what they report.

    The constructor has `weights_init`, `means_init` and `precisions_init`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MixtureEstimator._parameter_constraints,
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
    }

    def _check_start(self, n_features: int) -> dict[str, FloatArray | None]:
        structure = self._structure()
        given: dict[str, FloatArray | None] = {"weights": None, "means": None, "precisions": None}
        if self.weights_init is not None:
            given["weights"] = check_mixture_weights(self.weights_init, "weights_init", self.n_components)
        if self.means_init is not None:
            given["means"] = check_means(self.means_init, "means_init", self.n_components, n_features)
        if self.precisions_init is not None:
            shape = structure.covariance_shape(self.n_components, n_features)
            given["precisions"] = check_positive_definite(
                self.precisions_init, "precisions_init", structure, shape
            )
        return given

    def _make_start(
        self,
        data: ArrayData,
        given: dict[str, FloatArray | None],
        random_state: np.random.RandomState,
        options: em.EMOptions,
        frame: Frame | None,
    ) -> seeding.Start:
        return seeding.initial_parameters(
            data,
            self._structure(),
            self.n_components,
            init_params=self.init_params,
            options=options,
            random_state=random_state,
            frame=frame,
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

    def log_prob_components(self, X: Any) -> FloatArray:
        """Compute the log-density of each row under each component, weights left out.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        log_prob : ndarray of shape (n_samples, n_components), float64
            ``log N(x_n; means_[k], covariances_[k])``. With ``log(weights_)`` added, its log-sum-exp over
            components is :meth:`score_samples`.

        Raises
        ------
        MemoryError
            If n_samples x n_components numbers do not fit into memory.
        """
        X, structure, parameters, n_threads = self._scored_rows(X)
        request = array_request((len(X), len(parameters.weights)), "log_prob_components")
        with explained_memory_error(request, IN_BLOCKS):
            return rows.log_prob_components(X, structure, parameters, n_threads)


def attributes_of_parameters(structure: Any, parameters: Parameters) -> dict[str, Any]:
    """The attributes that are the model."""
    return {
        "weights_": parameters.weights,
        "means_": parameters.means,
        "covariances_": parameters.covariances,
        "precisions_cholesky_": parameters.precisions_cholesky,
        "precisions_": structure.precisions(parameters.precisions_cholesky),
    }
