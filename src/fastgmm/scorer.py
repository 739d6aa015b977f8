"""A mixture made ready to score rows: what is derived from its parameters, once for many calls."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ._typing import FloatArray, LabelArray, RowArray
from .blocks import ArrayData, readable
from .frame import frame_of_parameters
from .kernels._bytes import same_arrays
from .kernels._pass import Pass, kernel_choice
from .parameters import Parameters
from .passes import score_rows
from .score_map import ScoreMap
from .structures import Structure
from .threads import single_threaded_blas

# Parameters of more bytes than this are derived from anew by each call: comparing them with those of the last
# call, and keeping two of everything, would cost more than it saves.
LARGEST_KEPT = 1 << 20
# Rows within so many standard deviations of the mixture are ordinary ones.
ORDINARY_REACH = 10.0


class Scorer:
    """A mixture as it was when this was made, for calls that must not take long.

    Rows are not validated but for type and shape: they must be an ndarray of shape (n_samples, n_features),
    float64 or float32, and finite. What NaN or infinity give is not defined. Made by
    ``GaussianMixture.scorer()``; later changes of the mixture do not reach it. Calls from several threads at
    once are fine.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
    >>> scorer = mixture.scorer()
    >>> scorer.predict(np.array([[8.0]]))
    array([1])
    """

    __slots__ = (
        "_frame", "_map_of_shares", "_n_threads", "_pass", "_pass_of_shares", "_score_map", "n_components",
        "n_features",
    )  # fmt: skip

    def __init__(
        self,
        structure: Structure,
        parameters: Parameters,
        n_threads: int,
        log_weights: FloatArray | None = None,
    ) -> None:
        # the mixture's arrays may be edited while this is in use
        parameters = Parameters(*(array.copy() for array in parameters))
        raised_by: FloatArray | float = 0.0
        weights = parameters.weights
        if log_weights is not None:  # which need not sum to 1, nor be within the range of numbers
            weights, raised_by = np.exp(log_weights - logsumexp(log_weights)), log_weights
            parameters = parameters._replace(weights=np.ones(weights.shape))
        with single_threaded_blas():  # a threaded factorisation gives other bits
            with np.errstate(over="ignore", invalid="ignore"):
                variances = structure.variances(parameters)
            means = parameters.means
            self._frame = frame_of_parameters(weights, means, variances, structure.common_scale)
            score_map = structure.score_map(parameters, self._frame, n_threads)
            self._score_map = score_map.compensated(np.sqrt(variances) * self._frame.scale).raised(raised_by)
            reach = 2.0 * np.abs(self._frame.to_frame(means)).max(axis=0) + ORDINARY_REACH
            self._map_of_shares = self._score_map.of_shares(reach)
        self.n_components, self.n_features = means.shape
        self._n_threads = n_threads
        self._prepare()

    def _prepare(self) -> None:
        """All of a pass but its rows."""
        self._pass = self._pass_of_shares = self._pass_of(self._score_map)
        if self._map_of_shares is not self._score_map:
            self._pass_of_shares = self._pass_of(self._map_of_shares)

    def _pass_of(self, score_map: ScoreMap) -> Pass:
        sweep = Pass(np.zeros((1, self.n_features)), None, self._frame, self.n_components)
        sweep.score(score_map)
        return sweep

    def __getstate__(self) -> dict[str, Any]:
        """All but the passes, which point into memory."""
        return {name: getattr(self, name) for name in self.__slots__ if not name.startswith("_pass")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the pass anew."""
        for name, value in state.items():
            setattr(self, name, value)
        self._prepare()

    def score_samples(self, X: RowArray) -> FloatArray:
        """Logarithm of the density of each row, (n_samples,)."""
        out = np.empty(len(X))
        self._write(X, "log_density", out)
        return out

    def predict(self, X: RowArray) -> LabelArray:
        """The most probable component of each row, (n_samples,) int64; the first of equals."""
        out = np.empty(len(X), dtype=np.int64)
        self._write(X, "labels", out, hard=True)
        return out

    def predict_proba(self, X: RowArray) -> FloatArray:
        """Probability of each component for each row, (n_samples, n_components)."""
        out = np.empty((len(X), self.n_components))
        self._write(X, "responsibilities", out)
        return out

    def scores(self, X: RowArray) -> FloatArray:
        """log(weight) + log N(x; mean, covariance) for each row and component, (n_samples, n_components)."""
        out = np.empty((len(X), self.n_components))
        self._write(X, "scores", out)
        return out

    def summary(self, data: ArrayData) -> FloatArray:
        """Sums over rows (kernels/job.h: fg_head)."""
        return score_rows(data, self._frame, self._score_map, self.n_components, self._n_threads)

    def _write(self, X: RowArray, name: str, out: NDArray[Any], hard: bool = False) -> None:
        """Outputs of this name (Pass.write) into a contiguous array."""
        if not (isinstance(X, np.ndarray) and X.dtype.char in "df"):
            kind = X.dtype if isinstance(X, np.ndarray) else type(X).__name__
            raise TypeError(
                f"X must be an ndarray of float64 or float32, got {kind}; use np.asarray(X, float)."
            )
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ValueError(f"X has the shape {X.shape}; expected (n_samples, {self.n_features}).")
        of_all = name in ("log_density", "scores")  # labels and responsibilities are of differences alone
        sweep = (self._pass if of_all else self._pass_of_shares).over(readable(X), hard)
        sweep.write(**{name: out})
        sweep.fill(self._n_threads)


class Kept(NamedTuple):
    """A scorer, and what it was made of: whose, which structure and threads, copies of the arrays."""

    estimator: ref[Any]
    made_for: tuple[Any, ...]
    arrays: tuple[NDArray[Any], ...]
    scorer: Scorer


class KeptScorers:
    """The last scorer of each estimator, for as long as the arrays it was made of hold the same numbers.

    Attributes are the model: users set them and edit them in place, so a scorer is found by their contents.
    Estimators are told apart by identity: a subclass may define equality and no hash.
    """

    def __init__(self) -> None:
        self._kept: dict[int, Kept] = {}
        self._lock = threading.RLock()  # a finaliser may run while it is held

    def of(self, estimator: Any, n_threads: int) -> Scorer:
        """The scorer kept for these very parameters; else one that is made now, and kept if it may be.

        Made by ``estimator._scored_by(n_threads)`` of ``estimator._model_arrays()``.
        """
        kept = self._kept.get(id(estimator))
        made_for = estimator.covariance_type, n_threads, kernel_choice()
        if (
            kept is not None
            and kept.made_for == made_for
            and same_arrays(estimator._model_arrays(), kept.arrays)
            and kept.estimator() is estimator
        ):
            return kept.scorer
        copies = _copies(estimator)
        scorer: Scorer = estimator._scored_by(n_threads)
        # nobody changed them in between
        if copies is not None and same_arrays(estimator._model_arrays(), copies):
            self._keep(estimator, made_for, copies, scorer)
        return scorer

    def _keep(
        self, estimator: Any, made_for: tuple[Any, ...], copies: tuple[NDArray[Any], ...], scorer: Scorer
    ) -> None:
        number = id(estimator)

        def forget(_: Any) -> None:
            with self._lock:
                self._kept.pop(number, None)

        with self._lock:
            self._kept[number] = Kept(ref(estimator, forget), made_for, copies, scorer)


def _copies(estimator: Any) -> tuple[NDArray[Any], ...] | None:
    """Copies of the arrays that a scorer is made of; None where it is not to be kept."""
    try:
        arrays = estimator._model_arrays()
    except AttributeError:  # not fitted: making a scorer says what is wrong
        return None
    # bytes of objects are addresses; subclasses may have bytes of their own, as masked arrays do
    if not all(type(array) is np.ndarray and array.dtype.kind in "fiu" for array in arrays):
        return None
    if sum(array.nbytes for array in arrays) > LARGEST_KEPT:
        return None
    return tuple(array.copy(order="C") for array in arrays)
