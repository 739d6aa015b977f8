"""Mixtures that maximise the likelihood, from a start that is given or seeded."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from . import em, outputs, seeding
from ._attributes import attributes_of_parameters
from ._estimator import MixtureEstimator
from ._parameter_validation import check_means, check_mixture_weights, check_positive_definite
from ._typing import FloatArray
from .blocks import ArrayData
from .frame import Frame
from .objective import Objective
from .threads import effective_n_threads


class SeededMixture(MixtureEstimator):
    """What the mixtures share that are seeded: where they start and what they report.

    The constructor has `weights_init`, `means_init` and `precisions_init`.
    """

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

    def log_prob_components(self, X: Any, out: Any = None) -> FloatArray:
        """Compute the log-density of each row under each component, weights left out.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`; of a source also those of weight 0.

        out : ndarray of shape (n_samples, n_components), float64, or a file's name, default=None
            Where to write: an array, of any strides; or the name of a .npy file, written part by part and put
            in its place when it is whole. None: a new array.

        Returns
        -------
        log_prob : ndarray of shape (n_samples, n_components), float64
            ``log N(x_n; means_[k], covariances_[k])``. With ``log(weights_)`` added, its log-sum-exp over
            components is :meth:`score_samples`. `out`, where it is given, as there.

        Raises
        ------
        ValueError
            As in :meth:`score_samples`.
        MemoryError
            If n_samples x n_components numbers do not fit into memory.
        """
        unweighted = self._scored_by(effective_n_threads(self.n_jobs), weighted=False)
        return self._outputs(outputs.SCORES, X, out, unweighted)
