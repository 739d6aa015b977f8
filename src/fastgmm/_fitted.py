"""Everything that is asked of a fitted mixture, whichever way its attributes came to be."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from . import outputs, persistence, rows
from ._attributes import attribute_parameters
from ._documentation import page
from ._scikit_learn import BaseEstimator, DensityMixin
from ._typing import CovarianceType, FloatArray
from ._validation import check_rows, check_sample_weight
from .blocks import ArrayData
from .normal_draws import draw_rows
from .parameters import Parameters
from .scorer import KeptScorers, Scorer
from .sources import DaskRows, Source, as_source, check_feature_names, data_of
from .structures import STRUCTURES
from .threads import effective_n_threads

_kept = KeptScorers()


class FittedMixture(DensityMixin, BaseEstimator):
    """The part of a mixture estimator that needs its attributes only: scores, labels, draws, files.

    The attributes are the model: they are read anew by every call, so that they can be set or edited by hand.
    What is derived from them is kept only as long as they hold the same numbers.
    """

    # options of the constructor
    covariance_type: CovarianceType
    n_jobs: int | None
    random_state: int | np.random.RandomState | None

    # the model
    weights_: FloatArray
    means_: FloatArray
    covariances_: FloatArray
    precisions_: FloatArray
    precisions_cholesky_: FloatArray
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    # link of the HTML representation; without the module scikit-learn makes none
    _doc_link_module = "fastgmm"
    _doc_link_template = page("README.md")

    # where outputs go is for callers to say: it is no metadata, which meta-estimators route
    __metadata_request__predict: ClassVar[dict[str, str]] = {"out": UNUSED}
    __metadata_request__predict_proba: ClassVar[dict[str, str]] = {"out": UNUSED}

    def _structure(self) -> Any:
        if self.covariance_type not in STRUCTURES:
            raise ValueError(
                f"covariance_type must be one of {', '.join(map(repr, STRUCTURES))}, got "
                f"{self.covariance_type!r}."
            )
        return STRUCTURES[self.covariance_type]

    def _model(self) -> tuple[Any, Parameters]:
        """Structure and parameters that rows are scored by, from the attributes as they are now."""
        structure = self._structure()
        return structure, attribute_parameters(self, structure, needs_covariances=False)

    def _model_arrays(self) -> tuple[Any, ...]:
        """The attributes that rows are scored by, as they are now."""
        return self.weights_, self.means_, self.precisions_cholesky_

    def _scored_by(self, n_threads: int, weighted: bool = True) -> Scorer:
        """What rows are scored by, of the attributes as they are now; not weighted: as if weights were 1."""
        structure, parameters = self._model()
        if not weighted:
            parameters = parameters._replace(weights=np.ones(parameters.weights.shape))
        return Scorer(structure, parameters, n_threads)

    def scorer(self) -> Scorer:
        """Make what scores rows without validating them, for services that score a few rows per call.

        Returns
        -------
        scorer : Scorer
            With methods `score_samples`, `predict` and `predict_proba` that give what this mixture's do now,
            for float64 or float32 arrays of finite numbers. Later changes do not reach it.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        """
        return _kept.of(self, effective_n_threads(self.n_jobs))

    def _check_n_features(self, X: NDArray[Any], n_features: int) -> None:
        if X.shape[1] != n_features:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {n_features} features "
                "as input."
            )

    def _streamed(self, X: Any, sample_weight: Any = None) -> Any:
        """Rows that are read block by block, of the model's features; None for arrays."""
        source = as_source(X, sample_weight)
        return None if source is None else self._data_of(source)

    def _data_of(self, source: Source) -> Any:
        """Rows of a source, of the model's features."""
        data = data_of(source, effective_n_threads(self.n_jobs))
        data.expect(self.scorer().n_features, getattr(self, "feature_names_in_", None))
        return data

    def _summary(self, X: Any, sample_weight: Any, scorer: Any = None) -> rows.RowSummary:
        """Weighted sums over rows, without an array per row; None: by the scorer of the mixture."""
        streamed = self._streamed(X, sample_weight)
        if scorer is None:
            scorer = self.scorer()
        if streamed is not None:
            return rows.summary_of_parts(streamed, scorer)
        X = check_rows(self, X, reset=False)
        self._check_n_features(X, scorer.n_features)
        return rows.summary(ArrayData(X, check_sample_weight(sample_weight, X.shape[0])), scorer)

    def _outputs(self, output: outputs.Output, X: Any, out: Any, scorer: Scorer | None = None) -> Any:
        """An output per row, of arrays and of sources; None: by the scorer of the mixture."""
        source = as_source(X)
        if scorer is None:
            scorer = self.scorer()
        if source is None:
            X = check_rows(self, X, reset=False)
            self._check_n_features(X, scorer.n_features)
            return outputs.of_array(output, scorer, X, out)
        if isinstance(source, DaskRows):
            check_feature_names(source.feature_names, getattr(self, "feature_names_in_", None))
            if out is not None:
                raise TypeError(
                    "out cannot be given for rows of Dask's: what comes back is a Dask array, of which "
                    "nothing is computed yet."
                )
            return source.outputs(scorer, output.method, scorer.n_features)
        return outputs.of_source(output, scorer, self._data_of(source), out)

    def score_samples(self, X: Any, out: Any = None) -> FloatArray:
        """Compute the log-likelihood of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`; of a source also those of weight 0.

        out : ndarray of shape (n_samples,), float64, or a file's name, default=None
            Where to write: an array, of any strides; or the name of a .npy file, written part by part and put
            in its place when it is whole. None: a new array.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,), float64
            Natural logarithm of the density of the mixture, in the units of X. `out`, where it is an array;
            the file memory-mapped for reading, where `out` is its name.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        ValueError
            If `out` has another shape or dtype, is read-only or shares memory with X; if its file cannot be
            written; if a source is not what it should be. The file is then left as it was.
        """
        return self._outputs(outputs.LOG_DENSITY, X, out)

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

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Compute the average log-likelihood per row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None: once.

        Returns
        -------
        log_likelihood : float
            ``sum_n w_n log p(x_n) / sum_n w_n``.
        """
        summary = self._summary(X, sample_weight)
        return float(summary.log_likelihood / summary.total_weight)

    def predict(self, X: Any, out: Any = None) -> NDArray[np.int64]:
        """Label rows with the most probable component.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`; of a source also those of weight 0.

        out : ndarray of shape (n_samples,), int64, or a file's name, default=None
            Where to write: an array, of any strides; or the name of a .npy file, written part by part and put
            in its place when it is whole. None: a new array.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            Number of the component with the largest posterior probability. `out`, where it is given, as in
            :meth:`score_samples`.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        ValueError
            As in :meth:`score_samples`.
        """
        return self._outputs(outputs.LABELS, X, out)

    def predict_proba(self, X: Any, out: Any = None) -> FloatArray:
        """Compute the probability of each component for each row.

        That is the probability that a row is of this component, given that it is of one of them, and no
        certainty away from the data: far from all components one of them usually has nearly all of it.
        :meth:`score_samples` says whether a row is like those of the fit (docs/outliers.md).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`; of a source also those of weight 0.

        out : ndarray of shape (n_samples, n_components), float64, or a file's name, default=None
            Where to write: an array, of any strides; or the name of a .npy file, written part by part and put
            in its place when it is whole. None: a new array.

        Returns
        -------
        resp : ndarray of shape (n_samples, n_components), float64
            Posterior probabilities (responsibilities); each row sums to 1. `out`, where it is given, as in
            :meth:`score_samples`.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        ValueError
            As in :meth:`score_samples`.
        MemoryError
            If n_samples x n_components numbers do not fit into memory.
        """
        return self._outputs(outputs.RESPONSIBILITIES, X, out)

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """Draw rows from the mixture.

        `covariances_` are what is drawn from. Draws are those of scikit-learn for the same `random_state` and
        parameters, but for covariances in such different units, or so near to singular, that NumPy's factors
        of them are wrong: of those, factors are taken in units of the standard deviations.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, at least 1.

        random_state : int, RandomState instance or None, default=None
            What this call draws by. None: the mixture's own `random_state`, as in scikit-learn: where that is
            an int, every call draws the same rows. A bootstrap gives a number of its own to each call, or the
            same RandomState to all of them.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features), float64
            The rows, grouped by component.

        y : ndarray of shape (n_samples,), int64
            Number of the component each row was drawn from.

        Raises
        ------
        ValueError
            If `n_samples` is less than 1; if `covariances_` are not finite or not positive semi-definite.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgmm import GaussianMixture
        >>> mixture = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]], random_state=0)
        >>> bool(mixture.sample()[0] == mixture.sample()[0])
        True
        >>> rng = np.random.RandomState(0)
        >>> means = [mixture.sample(100, random_state=rng)[0].mean() for _ in range(1000)]
        >>> bool(0.09 < np.std(means) < 0.11)  # a tenth of the standard deviation of a row
        True
        """
        check_is_fitted(self, ["weights_", "means_", "covariances_"])
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample."
            )
        rng = check_random_state(self.random_state if random_state is None else random_state)
        attributes = (self.weights_, self.means_, self.covariances_)
        weights, means, covariances = (np.asarray(array, dtype=np.float64) for array in attributes)
        return draw_rows(rng, n_samples, weights, means, covariances, self.covariance_type)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted mixture to a file.

        The file is an .npz archive with a format version: arrays and plain text, nothing pickled, so that
        :meth:`load` never runs code from it. It is written beside `path` and then put in its place, so that
        `path` holds either the old file or the whole new one. A file that is there keeps its permissions, and
        its owner and group where the process may give them. A link stays, and what it leads to is replaced.
        `checkpoint` is not saved.

        Parameters
        ----------
        path : str or path-like
            Where to write; taken as it is, no ending is added.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        ValueError
            If the attributes do not fit together.
        OSError
            If the file cannot be written, or `path` is a folder, FIFO or device.
        """
        persistence.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a mixture written by :meth:`save`.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        mixture : object
            A fitted mixture with the same constructor parameters, attributes and predictions. Only
            `checkpoint` is None: whoever made a file does not choose where a later fit writes.

        Raises
        ------
        ValueError
            If the file is damaged, is not one of :meth:`save`, has an unknown format version, is of another
            estimator, or holds anything that is not a valid mixture.
        OSError
            If the file cannot be read.
        """
        return persistence.load(cls, path)
