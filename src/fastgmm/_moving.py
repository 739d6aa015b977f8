"""Fits with moves: what is allowed, and how many components are started with and may be found."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral
from typing import Any, ClassVar, Final, Literal

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from . import em
from ._seeded import SeededMixture
from .blocks import ArrayData
from .exceptions import UnfinishedSearchWarning
from .frame import Frame
from .kernels._pass import MATRIX
from .restarts import Heats
from .sources import Data
from .variational import Evidence, Prior
from .variational.evidence import is_singular
from .variational.moves import ALL, MOST, ROWS_PER_FEATURE, START, Search
from .variational.moves_levels import found_on_samples

Move = Literal["split", "merge", "birth"]
AUTO: Final = "auto"
# weight_concentration_prior where the number of components is not given: a stick's share is uniform then, and
# so are Dirichlet weights.
CONCENTRATION = 1.0


class MovesMixin(SeededMixture):
    """Mixtures whose number of components may be 'auto'.

    The constructor has `moves` and `max_components`.
    """

    moves: Literal["all"] | Move | Collection[Move] | None
    max_components: int | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [*SeededMixture._parameter_constraints["n_components"], StrOptions({AUTO})],
        "moves": [None, StrOptions({"all", *ALL}), list, tuple],
        "max_components": [None, Interval(Integral, 1, None, closed="left")],
    }

    @property
    def n_components_(self) -> int:
        """Number of components of the posterior."""
        check_is_fitted(self, "means_")
        return len(self.means_)

    def _default_concentration(self) -> float:
        return CONCENTRATION if isinstance(self.n_components, str) else 1.0 / self.n_components

    def _allowed_moves(self) -> tuple[str, ...]:
        """The moves that a fit may make; all that is given is checked."""
        free = self.n_components == AUTO
        given = self.moves
        chosen: tuple[str, ...] = ()
        if given == "all" or (given is None and free):
            chosen = ALL
        elif given is not None:
            chosen = (given,) if isinstance(given, str) else tuple(given)
        if free and not chosen:
            raise ValueError("moves is empty, and n_components='auto' is found by moves. Set moves='all'.")
        for move in chosen:
            if move not in ALL:
                raise ValueError(f"moves holds {move!r}; there are {', '.join(map(repr, ALL))}.")
        if chosen and self.checkpoint is not None:
            raise ValueError(
                "checkpoint is given, and moves are to be made, of which a checkpoint keeps nothing. Set "
                "checkpoint=None, or a number of components and moves=None."
            )
        starts = ("responsibilities_init", "weights_init", "means_init", "precisions_init")
        for name in starts if free else ():
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is given, and n_components='auto', which makes its own start. Set n_components "
                    "to the number of components that are given, and moves='all'."
                )
        return chosen

    def _fit(self, X: Any, sample_weight: Any) -> Any:
        self._allowed_moves()
        return super()._fit(X, sample_weight)

    def _n_start(self, n_rows: int | None = None, n_features: int = 1) -> int:
        if self.n_components != AUTO:
            return int(self.n_components)
        return min(START, self._n_most(n_rows, n_features))

    def _n_most(self, n_rows: int | None, n_features: int) -> int:
        """Most components that a fit may find."""
        if self.max_components is not None:
            most = int(self.max_components)
            return most if n_rows is None else min(most, n_rows)
        if n_rows is None:
            return MOST
        # a matrix of its own takes as many rows as features, one number for each feature a few
        structure = self._structure()
        own = structure.moment_shape == MATRIX and not structure.pooled
        return max(min(MOST, n_rows // (ROWS_PER_FEATURE * (n_features + 1 if own else 2))), 1)

    def _proper(self, prior: Prior, reg_covar: float) -> Prior:
        """A prior of default covariance: reg_covar is added where moves are made and it is singular.

        Of a singular one each component's evidence is infinite, and mixtures of different numbers of them in
        use cannot be compared; as the rows have it, their constant columns have this variance.
        """
        if not (self._allowed_moves() and is_singular(self._structure(), prior, 1)):
            return prior
        if not reg_covar > 0.0:
            raise ValueError(
                "moves compare the evidence of components, which the default covariance_prior leaves "
                "undefined: columns of X are constant or depend on others. Leave them out, give "
                "covariance_prior, or set reg_covar above 0."
            )
        added = np.eye(prior.mean.size) if np.ndim(prior.covariance) == 2 else 1.0
        return prior._replace(covariance=np.asarray(prior.covariance + reg_covar * added))

    def _heats(self) -> Heats:
        # how high a run with moves ends does not show early
        heats = super()._heats()
        return heats._replace(first=int(self.max_iter)) if self._allowed_moves() else heats

    def _unfinished(self, result: em.EMResult) -> tuple[str, type[Warning]] | None:
        if not result.cut_off:
            return super()._unfinished(result)
        limit = "max_time" if result.out_of_time else "max_iter"
        if self.n_components == AUTO:
            n = len(result.parameters.weights)
            what = f"It came as far as {n} components, but this number is not a result."
        else:
            what = "A move that was not tried might lead to a better fit."
        message = (
            f"The search was cut off by {limit}={getattr(self, limit)} before it had tried all moves. {what} "
            f"Increase {limit}: iterations of moves count in max_iter, also of those that were taken back."
        )
        return message, UnfinishedSearchWarning

    def _run(self, data: Data, start: Any, options: em.EMOptions, **how: Any) -> em.EMResult:
        allowed = self._allowed_moves()
        if not allowed or options.max_iter == 0:
            return super()._run(data, start, options, **how)
        objective, frame = how["objective"], how["frame"]
        assert isinstance(objective, Evidence)
        assert isinstance(frame, Frame)
        free, in_vain = self.n_components == AUTO, None
        if free and how["previous_bound"] == -np.inf:  # nothing that a warm start is to go on from
            streamed: Any = data
            start, in_vain = found_on_samples(
                data if isinstance(data, ArrayData) else streamed.seeds,
                data.n_positive,
                objective,
                options,
                frame,
                start,
                allowed,
                lambda n_rows: self._n_most(n_rows, data.n_features),
            )
        search = Search(
            data,
            objective,
            options,
            frame,
            allowed=allowed,
            n_most=self._n_most(data.n_positive, data.n_features) if free else start.weights.size,
            free=free,
            in_vain=in_vain,
            on_iteration=how["on_iteration"],
        )
        return search.run(start, how["previous_bound"])
