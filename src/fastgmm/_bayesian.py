"""What a fitted Bayesian mixture tells from its attributes: scores, components in use, the posterior."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from . import outputs
from ._attributes import attribute_parameters
from ._fitted import FittedMixture
from ._parameter_validation import check_covariance_prior, check_parameter
from ._typing import FloatArray, IndexArray, WeightPrior
from .gaussian_mixture import GaussianMixture
from .kernels._pass import MATRIX
from .parameters import Parameters
from .scorer import Scorer
from .structures import STRUCTURES
from .threads import effective_n_threads, single_threaded_blas
from .variational import Posterior, draws
from .variational.posterior import log_blur, mean_log_weights
from .variational.predictive import Predictive
from .variational.prior import DISTRIBUTION, PROCESS

# Components count as used from this share of the rows on.
USED_FROM = 0.01

# Stand for the kind of prior among the arrays that a scorer is made of.
KINDS, NO_SECOND = {PROCESS: np.zeros(1), DISTRIBUTION: np.ones(1)}, np.empty(0)

POSTERIOR = ("weight_concentration_", "mean_precision_", "degrees_of_freedom_")


class ParameterDraws(NamedTuple):
    """Draws from the posterior of a Bayesian mixture, independent of each other.

    Attributes
    ----------
    weights : ndarray of shape (n_draws, n_components)
    means : ndarray of shape (n_draws, n_components, n_features)
    covariances : ndarray of shape (n_draws, n_components, n_features, n_features)
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray


class CredibleIntervals(NamedTuple):
    """Ends of the central credible interval of each parameter, on its own.

    Attributes
    ----------
    weights : ndarray of shape (n_components, 2)
    means, variances : ndarray of shape (n_components, n_features, 2)
    """

    weights: FloatArray
    means: FloatArray
    variances: FloatArray


class BayesianMixin(FittedMixture):
    """The attributes are the posterior: they are read anew by every call."""

    weight_concentration_prior_type: WeightPrior
    weight_concentration_: FloatArray | tuple[FloatArray, FloatArray]
    mean_precision_: FloatArray
    degrees_of_freedom_: FloatArray | float
    weight_concentration_prior_: float
    mean_precision_prior_: float
    mean_prior_: FloatArray
    degrees_of_freedom_prior_: float
    covariance_prior_: FloatArray | float

    # which of two scores is meant is for callers to say: it is no metadata, which meta-estimators route
    __metadata_request__score: ClassVar[dict[str, str]] = {"predictive": UNUSED}

    def _posterior(self) -> tuple[Any, Parameters, Posterior]:
        """Structure, parameters and posterior, from the attributes as they are now; checked."""
        structure = self._structure()
        check_is_fitted(self, list(POSTERIOR))
        if self.weight_concentration_prior_type not in KINDS:
            raise ValueError(
                f"weight_concentration_prior_type must be one of {', '.join(map(repr, KINDS))}, got "
                f"{self.weight_concentration_prior_type!r}."
            )
        parameters = attribute_parameters(self, structure, needs_covariances=False)
        K, D = parameters.means.shape
        process = self.weight_concentration_prior_type != DISTRIBUTION
        values = np.array(self.weight_concentration_) if process else self.weight_concentration_
        shape = (2, K) if process else (K,)
        text = "two of (n_components,)" if process else "(n_components,)"
        concentration = check_parameter(values, "weight_concentration_", shape, text)
        precision = check_parameter(self.mean_precision_, "mean_precision_", (K,), "(n_components,)")
        dof = np.asarray(self.degrees_of_freedom_, dtype=np.float64)
        if structure.pooled and dof.ndim == 0:
            dof = np.full(K, float(dof))
        dof = check_parameter(dof, "degrees_of_freedom_", (K,), "(n_components,)")
        for name, array, least in (
            ("weight_concentration_", concentration, 0.0),
            ("mean_precision_", precision, 0.0),
            ("degrees_of_freedom_", dof, D - 1.0),
        ):
            if not (array > least).all():
                raise ValueError(f"{name} should be greater than {least:g}, but holds {array.min()!r}.")
        return structure, parameters, Posterior(concentration, precision, dof)

    def check_posterior(self) -> None:
        """Refuse attributes that are no posterior; names what is wrong with the first that is not."""
        structure, parameters, _ = self._posterior()
        D = parameters.means.shape[1]
        for name, least in (
            ("weight_concentration_prior_", 0.0),
            ("mean_precision_prior_", 0.0),
            ("degrees_of_freedom_prior_", D - 1.0),
        ):
            value = float(check_parameter(getattr(self, name), name, (), "a number"))
            if not value > least:
                raise ValueError(f"{name} should be greater than {least:g}, but is {value!r}.")
        check_parameter(self.mean_prior_, "mean_prior_", (D,), "(n_features,)")
        check_covariance_prior(
            self.covariance_prior_, "covariance_prior_", structure, D, may_be_singular=True
        )

    def _model_arrays(self) -> tuple[Any, ...]:
        concentration = self.weight_concentration_
        # of as many arrays for one kind of prior as for the other, and never the same ones
        in_two = isinstance(concentration, tuple) and len(concentration) == 2
        parts = concentration if in_two else (concentration, NO_SECOND)
        kind = KINDS.get(self.weight_concentration_prior_type)
        dof = np.atleast_1d(self.degrees_of_freedom_)
        return (
            *parts,
            kind,
            self.mean_precision_,
            dof,
            self.weights_,
            self.means_,
            self.precisions_cholesky_,
        )

    def _scored_by(self, n_threads: int, weighted: bool = True) -> Scorer:
        structure, parameters, posterior = self._posterior()
        logs = log_blur(posterior, parameters.means.shape[1])
        if weighted:
            logs += mean_log_weights(posterior.concentration)
        return Scorer(structure, parameters, n_threads, log_weights=logs)

    # ---- density -----------------------------------------------------------------------------------------

    def score_samples(self, X: Any, out: Any = None, *, predictive: bool = False) -> FloatArray:
        """Compute what each row is scored by, or its posterior predictive log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`; of a source also those of weight 0.

        out : ndarray of shape (n_samples,), float64, or a file's name, default=None
            Where to write: an array, of any strides; or the name of a .npy file, written part by part and put
            in its place when it is whole. None: a new array.

        predictive : bool, default=False
            False: ``log sum_k exp(E[log weight_k] + E[log N(x; mean_k, covariance_k)])``, as scikit-learn.
            That is the bound's term of the row and no density: it integrates to less than 1, the less the
            fewer rows a component has. True: the logarithm of the posterior predictive density, which
            integrates to 1: a mixture of Student's t (Bishop 2006, 10.81), weighted by the expected weights.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,), float64
            `out`, where it is an array; the file memory-mapped for reading, where `out` is its name.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        ValueError
            If `out` has another shape or dtype, is read-only or shares memory with X; if its file cannot be
            written; if a source is not what it should be. The file is then left as it was.
        """
        if not predictive:
            return super().score_samples(X, out)
        log_prob: FloatArray = self._outputs(outputs.LOG_DENSITY, X, out, self._predictive())
        return log_prob

    def _predictive(self) -> Any:
        return Predictive(*self._posterior(), effective_n_threads(self.n_jobs))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, *, predictive: bool = False) -> float:
        """Compute the mean over rows of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None: once.

        predictive : bool, default=False
            False: what rows are scored by, as scikit-learn, which is no density: not to be compared with the
            log-likelihoods of other models, nor well suited to choose between mixtures. True: the logarithm
            of the posterior predictive density, which can be.

        Returns
        -------
        score : float
            ``sum_n w_n score_n / sum_n w_n``.
        """
        summary = self._summary(X, sample_weight, self._predictive() if predictive else None)
        return float(summary.log_likelihood / summary.total_weight)

    def log_prob_components(self, X: Any, out: Any = None) -> FloatArray:
        """Compute the expected log-density of each row under each component, weights left out.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`; of a source also those of weight 0.

        out : ndarray of shape (n_samples, n_components), float64, or a file's name, default=None
            Where to write, as in :meth:`score_samples`.

        Returns
        -------
        log_prob : ndarray of shape (n_samples, n_components), float64
            ``E[log N(x_n; mean_k, covariance_k)]`` under the posterior: less than the log-density at
            `means_` and `covariances_`, the more so the fewer rows a component has. With ``E[log weight_k]``
            added, its log-sum-exp over components is :meth:`score_samples`. `out`, where it is given, as
            there.

        Raises
        ------
        ValueError
            As in :meth:`score_samples`.
        MemoryError
            If n_samples x n_components numbers do not fit into memory.
        """
        return super().log_prob_components(X, out)

    # ---- components in use -------------------------------------------------------------------------------

    def used_components(self, threshold: float | None = None) -> IndexArray:
        """Components that have a say: numbers of those with rows enough.

        Parameters
        ----------
        threshold : float or None, default=None
            Least share of all rows. A component needs more than n_features + 1 rows besides. None: 0.01; all
            components that were found with ``n_components='auto'``.

        Returns
        -------
        components : ndarray of int
            Numbers of the components, ascending.

        Raises
        ------
        ValueError
            If `threshold` is not in [0, 1].
        """
        if threshold is None and getattr(self, "n_components", None) == "auto":
            return np.arange(self._posterior()[1].weights.size)
        if threshold is None:
            threshold = USED_FROM
        if not (isinstance(threshold, Real) and 0.0 <= float(threshold) <= 1.0):
            raise ValueError(f"threshold must be a number from 0 to 1, got {threshold!r}.")
        _, parameters, posterior = self._posterior()
        counts = posterior.mean_precision - float(self.mean_precision_prior_)
        enough = counts > parameters.means.shape[1] + 1
        return np.flatnonzero(enough & (counts >= float(threshold) * counts.sum()))

    @property
    def n_effective_components_(self) -> int:
        """Number of components in use: of :meth:`used_components`."""
        return len(self.used_components())

    def compact(self, threshold: float | None = None) -> GaussianMixture:
        """Make a plain mixture of the components in use.

        Parameters
        ----------
        threshold : float or None, default=None
            As in :meth:`used_components`.

        Returns
        -------
        mixture : GaussianMixture
            With their expected weights, normalised, means, and `covariances_`.

        Raises
        ------
        ValueError
            If no component is in use.
        """
        used = self.used_components(threshold)
        if not used.size:
            share = USED_FROM if threshold is None else threshold
            raise ValueError(
                f"No component has a share of {share} of the rows and more than n_features + 1 of them. "
                "Lower threshold, or fit fewer components."
            )
        check_is_fitted(self, ["weights_", "means_", "covariances_"])
        weights = np.asarray(self.weights_, dtype=np.float64)[used]
        covariances = np.asarray(self.covariances_, dtype=np.float64)
        # not tol, which is of a mean over rows there, and of a sum here
        names = ("reg_covar", "random_state", "n_jobs", "repair", "max_iter")
        mixture = GaussianMixture.from_parameters(
            weights / weights.sum(),
            np.asarray(self.means_, dtype=np.float64)[used],
            covariances if self.covariance_type == "tied" else covariances[used],
            self.covariance_type,
            **{name: getattr(self, name) for name in names},
        )
        if hasattr(self, "feature_names_in_"):
            mixture.feature_names_in_ = self.feature_names_in_
        return mixture

    # ---- posterior ---------------------------------------------------------------------------------------

    def sample_parameters(
        self, n_draws: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> ParameterDraws:
        """Draw mixtures from the posterior.

        Weights are drawn from their Dirichlet distribution, or stick by stick and then normalised; precisions
        from Wishart distributions, means given these from normal ones. For all covariance types the posterior
        is one of full matrices, of which 'tied', 'diag' and 'spherical' restrict the expectation only: so
        every draw is a full matrix, and differs from component to component.

        Parameters
        ----------
        n_draws : int, default=1
            How many, at least 1.

        random_state : int, RandomState instance or None, default=None
            What this call draws by, as in :meth:`sample`. None: the mixture's own `random_state`.

        Returns
        -------
        draws : ParameterDraws
            A named tuple of `weights` (n_draws, n_components), `means` (n_draws, n_components, n_features)
            and `covariances` (n_draws, n_components, n_features, n_features).

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        ValueError
            If `n_draws` is no integer or less than 1.
        """
        if not (isinstance(n_draws, Integral) and n_draws >= 1):
            raise ValueError(f"n_draws must be an integer, at least 1, got {n_draws!r}.")
        _, parameters, posterior = self._posterior()
        rng = check_random_state(self.random_state if random_state is None else random_state)
        weights = draws.draw_weights(posterior.concentration, int(n_draws), rng)
        with single_threaded_blas():
            drawn = draws.draw_gaussians(parameters.means, self._matrices(), posterior, int(n_draws), rng)
        return ParameterDraws(weights, *drawn)

    def credible_intervals(self, level: float = 0.95) -> CredibleIntervals:
        """Compute central credible intervals of weights, means and variances.

        Each is of one parameter's marginal posterior: beta for a weight, Student's t for a mean, inverse
        gamma for a variance. Weights of a Dirichlet process have no such formula: their intervals are
        quantiles of 20,000 draws by `random_state`.

        Parameters
        ----------
        level : float, default=0.95
            Probability of each interval, between 0 and 1.

        Returns
        -------
        intervals : CredibleIntervals
            A named tuple of `weights` (n_components, 2), `means` and `variances` (n_components, n_features,
            2): the lower and the upper end.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        ValueError
            If `level` is not between 0 and 1.
        """
        if not (isinstance(level, Real) and 0.0 < float(level) < 1.0):
            raise ValueError(f"level must be a number between 0 and 1, got {level!r}.")
        structure, parameters, posterior = self._posterior()
        rng = check_random_state(self.random_state)
        variances = structure.variances(parameters)
        of_weights = draws.weight_intervals(posterior.concentration, float(level), rng)
        rest = draws.gaussian_intervals(parameters.means, variances, posterior, float(level))
        return CredibleIntervals(of_weights, *rest)

    def _matrices(self) -> FloatArray:
        """Covariances as matrices, (K, D, D)."""
        structure = self._structure()
        parameters = attribute_parameters(self, structure, needs_covariances=True)
        K, D = parameters.means.shape
        if structure.moment_shape == MATRIX:
            return np.broadcast_to(parameters.covariances, (K, D, D))
        return STRUCTURES["full"].from_variances(structure.variances(parameters))
