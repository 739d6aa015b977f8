"""`BayesianGaussianMixture`: scikit-learn's estimator of that name, and what it has beyond."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Real
from os import PathLike
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from . import em
from ._attributes import attributes_of_parameters
from ._bayesian import BayesianMixin
from ._documentation import page
from ._moving import Move, MovesMixin
from ._parameter_validation import check_assignment, check_covariance_prior, check_parameter
from ._seeded import SeededMixture
from ._typing import Acceleration, Arithmetic, CovarianceType, InitParams, Repair, WeightPrior
from .conversion import ConvertibleMixin
from .data_moments import mean_and_covariance
from .frame import Frame
from .objective import Objective
from .sources import Data
from .variational import Evidence, Prior
from .variational.posterior import mean_weights
from .variational.prior import DISTRIBUTION, PROCESS


class BayesianGaussianMixture(MovesMixin, BayesianMixin, ConvertibleMixin, SeededMixture):
    """Variational Bayesian Gaussian mixture.

    A drop-in for :class:`sklearn.mixture.BayesianGaussianMixture`: the same constructor, methods and
    attributes, and the same map from start to result; clusters found by ``init_params='kmeans'`` may differ.
    Fits maximise the evidence lower bound over posteriors in which the components of rows are independent of
    the parameters (Bishop 2006, section 10.2; Blei and Jordan 2006 for the Dirichlet process). Components
    that the rows do not need are left with few of them: give more than there can be, and ask
    `n_effective_components_` afterwards.

    Parameters
    ----------
    n_components : int or 'auto', default=1
        Number of components, the most that can be found. 'auto': as many as `moves` end with, none of which
        raises the lower bound any more; those without rows are left out. Takes more iterations than others:
        give `max_iter` of several hundred.

    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        Expected covariances: a matrix for each component, one matrix for all, a diagonal for each, or one
        variance for each. The model is that of full matrices for all four; see Notes.

    tol : float, default=1e-3
        A run has converged when the lower bound, summed over all rows, changes by less than this.

    reg_covar : float, default=1e-6
        Added to the diagonal of the covariances of rows, in squared units of X. At 0 the lower bound never
        decreases, and the prior keeps covariances from collapsing.

    max_iter : int, default=100
        Most iterations of a run. 0: the start is the result.

    n_init : int, default=1
        Number of starts, of which the run with the largest `lower_bound_` is kept; from three on runs race,
        as in :class:`GaussianMixture`, unless they make moves.

    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How responsibilities are started where nothing is given: from clusters, from rows chosen far apart, at
        random, from random rows.

    weight_concentration_prior_type : {'dirichlet_process', 'dirichlet_distribution'}, \
default='dirichlet_process'
        Prior of the weights: sticks broken one after the other, of which there could be any number, or a
        Dirichlet distribution, which treats all components alike.

    weight_concentration_prior : float or None, default=None
        The process' gamma, or the Dirichlet distribution's alpha, in rows. Small values leave components
        empty. None: ``1 / n_components``; 1 with ``n_components='auto'``, since bounds of different numbers
        of components can be compared under one prior only.

    mean_precision_prior : float or None, default=None
        How many rows the prior of the means weighs. None: 1.

    mean_prior : array-like of shape (n_features,), default=None
        Centre of the prior of the means. None: the mean of X.

    degrees_of_freedom_prior : float or None, default=None
        Degrees of freedom of the Wishart prior of precisions, more than ``n_features - 1``. None:
        `n_features`.

    covariance_prior : float or array-like, default=None
        Inverse scale of the Wishart prior, in squared units of X: of shape (n_features, n_features) for
        'full' and 'tied', (n_features,) for 'diag', a number for 'spherical'. None: the covariance of X
        (numpy.cov), or its diagonal, or the mean of that; with moves plus `reg_covar` where that is singular,
        as constant columns make it.

    random_state : int, RandomState instance or None, default=None
        Draws for starts, and for :meth:`sample` and :meth:`sample_parameters`.

    warm_start : bool, default=False
        Whether `fit` continues from the last fit, with the same numbers of components and features.

    verbose : int, default=0
        1: a progress bar; 2: also a line every `verbose_interval` iterations.

    verbose_interval : int, default=10
        Iterations from one line to the next.

    responsibilities_init : array-like, default=None
        Start: probabilities of the components for each row of X, of shape (n_samples, n_components), or the
        number of each row's component, of shape (n_samples,) and integers.

    weights_init, means_init, precisions_init : array-like, default=None
        Start: as if the rows had these weights, means and inverse covariances, in the shapes of
        :class:`GaussianMixture`. Means given alone: rows are assigned to the nearest.

    n_jobs : int or None, default=None
        Threads, as in :class:`GaussianMixture`. The result does not depend on it, bit for bit.

    repair : {'reseed', 'floor', 'raise'}, default='reseed'
        What happens to a component whose expected covariance is singular, which takes a prior that nearly is.

    acceleration : {'anderson'} or None, default=None
        Combines the last steps to longer ones, as in :class:`GaussianMixture`, for as long as all components
        have rows.

    arithmetic : {'float64', 'float32'}, default='float64'
        Arithmetic of the passes that `fit` makes over float32 rows, as in :class:`GaussianMixture`; with
        moves always float64.

    checkpoint : str, path-like or None, default=None
        File from which a fit that was killed goes on, as in :class:`GaussianMixture`.

    checkpoint_every : int, default=10
        Iterations of a run from one time that it is kept to the next.

    max_time : float or None, default=None
        Seconds after which `fit` ends with the best so far.

    moves : {'all', 'merge', 'split', 'birth'}, list of them or None, default=None
        Moves from one optimum to a higher one: components that are better one are merged, those that are
        better two are split, and new ones are made for the rows that are explained worst. After each, EM goes
        on; the move is kept only where the lower bound of all rows has risen, else taken back. With a number
        of components these stay as many, some of them without rows. `max_iter` counts the iterations of moves
        that were taken back, too; where it cuts the search off, an :class:`UnfinishedSearchWarning` says so.
        None: no moves, and all of them with ``n_components='auto'``. Not with
        `checkpoint`.

    max_components : int or None, default=None
        Most components of ``n_components='auto'``. None: 256, but no more than one for each 4 rows, for each
        ``2 * (n_features + 1)`` rows with 'full' covariances.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Expected weights; those of a Dirichlet process are normalised.

    means_ : ndarray of shape (n_components, n_features)
        Expected means.

    covariances_ : ndarray
        Inverses of the expected precisions, in the shape of :class:`GaussianMixture`'s.

    precisions_ : ndarray
        Expected precisions. Same shape.

    precisions_cholesky_ : ndarray
        Factors U, upper triangular, of the precisions U U'. Same shape.

    converged_ : bool
        Whether the kept run converged.

    n_iter_ : int
        Iterations of the kept run.

    lower_bound_ : float
        Evidence lower bound of all rows, a sum with all its constants, of the responsibilities before the
        last iteration and the posterior after it. It is a lower bound of the logarithm of the evidence,
        ``log p(X)``, and can be compared between numbers of components and priors; not between covariance
        types, which are approximations of one model. scikit-learn's lacks a constant. Where the default
        `covariance_prior` is singular, as columns of X are constant or depend on others, there is no evidence
        to bound, and bounds can be compared between equal numbers of components only.

    lower_bounds_ : list of float
        `lower_bound_` of each iteration; while a move is tried, that of the mixture which it may replace.

    history_ : dict of list
        What the kept run recorded at each iteration, as in :class:`GaussianMixture`. With moves, iterations
        of those that were taken back are not in it, and ``history_['moves']`` lists all that were tried:
        after which iteration, 'merge', 'split' or 'birth', components before and after, lower bound before
        and after, and whether it was kept; 'empty' where 'auto' left out components of less than one row in
        the end, at a cost of less than a nat.

    n_repairs_ : int
        Repairs of components in the kept run.

    weight_concentration_ : tuple of two ndarray of shape (n_components,), or one ndarray
        Parameters of the Beta posteriors of the sticks; of the Dirichlet posterior.

    mean_precision_ : ndarray of shape (n_components,)
        How many rows each posterior mean weighs, those of the prior included.

    degrees_of_freedom_ : ndarray of shape (n_components,), float for 'tied'
        Degrees of freedom of the Wishart posteriors.

    weight_concentration_prior_, mean_precision_prior_, degrees_of_freedom_prior_ : float
        The priors that were used.

    mean_prior_ : ndarray of shape (n_features,)
        The prior that was used.

    covariance_prior_ : ndarray, float for 'spherical'
        The prior that was used.

    n_components_ : int
        Number of components of the posterior: `n_components`, or what 'auto' has found.

    n_effective_components_ : int
        Number of components with at least 1 % of the rows, and more than n_features + 1 of them; all that
        were found by 'auto'.

    n_features_in_ : int
        Number of features seen by `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen by `fit`, where X has names that are all strings.

    See Also
    --------
    sklearn.mixture.BayesianGaussianMixture : The estimator this one replaces.
    GaussianMixture : Mixtures of maximum likelihood.

    Notes
    -----
    The attributes are the posterior: they may be set or edited by hand, and every method reads them anew.

    For 'tied', 'diag' and 'spherical' the posterior of each precision is still a Wishart distribution of full
    matrices, whose scale matrix is restricted: to one for all components, a diagonal, a multiple of the
    identity.

    How many components are found depends on `covariance_prior`, which counts for `degrees_of_freedom_prior`
    rows of each. The default is the spread of all rows: clusters that are much tighter, and of few rows, cost
    much evidence and are merged with their neighbours. Give covariances of the size that clusters should
    have, where it is known.

    The model, its priors and what they do: https://github.com/fastgmm/fastgmm/blob/main/docs/bayesian.md.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import BayesianGaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(200, 2)) + 6])
    >>> mixture = BayesianGaussianMixture(n_components=10, max_iter=500, random_state=0).fit(X)
    >>> mixture.n_effective_components_
    2
    >>> mixture.compact().weights_.round(1)
    array([0.6, 0.4])

    The number of components can be found as well:

    >>> BayesianGaussianMixture(n_components="auto", random_state=0).fit(X).n_components_
    2
    """

    _prior_wanted: ClassVar[str] = "give a larger covariance_prior"
    _doc_link_template = page("docs/bayesian.md")

    weight_concentration_prior: float | None
    mean_precision_prior: float | None
    mean_prior: ArrayLike | None
    degrees_of_freedom_prior: float | None
    covariance_prior: float | ArrayLike | None
    responsibilities_init: ArrayLike | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SeededMixture._parameter_constraints,
        **MovesMixin._parameter_constraints,
        "weight_concentration_prior_type": [StrOptions({PROCESS, DISTRIBUTION})],
        "weight_concentration_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "mean_precision_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "mean_prior": [None, "array-like"],
        "degrees_of_freedom_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "covariance_prior": [None, "array-like", Interval(Real, 0.0, None, closed="neither")],
        "responsibilities_init": [None, "array-like"],
    }

    def __init__(
        self,
        *,
        n_components: int | Literal["auto"] = 1,
        covariance_type: CovarianceType = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: InitParams = "kmeans",
        weight_concentration_prior_type: WeightPrior = PROCESS,
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: float | ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        responsibilities_init: ArrayLike | None = None,
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        n_jobs: int | None = None,
        repair: Repair = "reseed",
        acceleration: Acceleration | None = None,
        arithmetic: Arithmetic = "float64",
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        max_time: float | None = None,
        moves: Literal["all"] | Move | Collection[Move] | None = None,
        max_components: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.responsibilities_init = responsibilities_init
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.n_jobs = n_jobs
        self.repair = repair
        self.acceleration = acceleration
        self.arithmetic = arithmetic
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.max_time = max_time
        self.moves = moves
        self.max_components = max_components

    # ---- fit ---------------------------------------------------------------------------------------------

    def _check_start(self, n_features: int, n_rows: int | None = None) -> dict[str, Any]:
        self._given_prior(n_features)
        given: dict[str, Any] = super()._check_start(n_features, n_rows)
        if self.responsibilities_init is None:
            return given
        others = [name for name, values in given.items() if values is not None]
        if others:
            raise ValueError(
                f"responsibilities_init and {others[0]}_init are both given: a fit has one start."
            )
        if n_rows is None:
            raise ValueError(
                "responsibilities_init needs all rows of X in memory, as one array; start from weights_init, "
                "means_init and precisions_init instead."
            )
        responsibilities, labels = check_assignment(
            self.responsibilities_init, "responsibilities_init", n_rows, self._n_start()
        )
        return {**given, "responsibilities": responsibilities, "labels": labels}

    def _given_prior(self, n_features: int) -> Prior:
        """The prior, NaN where it is to be taken from the rows; all that is given is checked."""
        structure, D = self._structure(), n_features
        mean = covariance = np.full(D, np.nan)
        if self.mean_prior is not None:
            mean = check_parameter(self.mean_prior, "mean_prior", (D,), "(n_features,)")
        dof = D if self.degrees_of_freedom_prior is None else self.degrees_of_freedom_prior
        if not dof > D - 1.0:
            raise ValueError(
                f"degrees_of_freedom_prior should be greater than n_features - 1 = {D - 1}, but got {dof}."
            )
        if self.covariance_prior is not None:
            covariance = check_covariance_prior(self.covariance_prior, "covariance_prior", structure, D)
        concentration, precision = self.weight_concentration_prior, self.mean_precision_prior
        return Prior(
            self.weight_concentration_prior_type,
            self._default_concentration() if concentration is None else float(concentration),
            1.0 if precision is None else float(precision),
            mean,
            float(dof),
            covariance,
        )

    def _objective(self, data: Data, frame: Frame | None, options: em.EMOptions) -> Objective:
        structure, prior = self._structure(), self._given_prior(data.n_features)
        if self.mean_prior is None or self.covariance_prior is None:
            if frame is None:
                frame = data.frame(options.n_threads, structure.common_scale)
            default_of = "covariance_prior" if self.covariance_prior is None else None
            mean, covariance = mean_and_covariance(data, structure, frame, options, default_of)
            if self.mean_prior is None:
                prior = prior._replace(mean=mean)
            if self.covariance_prior is None:
                prior = self._proper(prior._replace(covariance=covariance), options.reg_covar)
        return Evidence(structure, prior, data.total_weight, options.reg_covar, options.n_threads)

    def _last_fit(self, data: Data) -> tuple[Any, float] | None:
        last = super()._last_fit(data)
        if last is None:
            return None
        # what the rows have told is the same under another prior
        precision = np.asarray(self.mean_precision_, dtype=np.float64)
        counts = np.maximum(precision - float(self.mean_precision_prior_), 0.0)
        return last[0]._replace(weights=counts / data.total_weight), last[1]

    def _attributes_of(self, result: em.EMResult) -> dict[str, Any]:
        evidence: Evidence = result.objective
        prior, posterior = evidence.prior, evidence.posterior(result.parameters)
        process = prior.kind == PROCESS
        structure = self._structure()
        dof, covariance = posterior.degrees_of_freedom, prior.covariance
        return {
            **super()._attributes_of(result),
            **attributes_of_parameters(structure, result.parameters),
            "weights_": mean_weights(posterior.concentration),
            "weight_concentration_": tuple(posterior.concentration) if process else posterior.concentration,
            "mean_precision_": posterior.mean_precision,
            "degrees_of_freedom_": float(dof[0]) if structure.pooled else dof,
            "weight_concentration_prior_": prior.weight_concentration,
            "mean_precision_prior_": prior.mean_precision,
            "mean_prior_": prior.mean,
            "degrees_of_freedom_prior_": prior.degrees_of_freedom,
            "covariance_prior_": covariance if np.ndim(covariance) else float(covariance),
        }
