"""`GaussianMixture`: scikit-learn's estimator of that name, and what it has beyond."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import StrOptions

from . import em
from ._attributes import attributes_of_parameters
from ._criteria import CriteriaMixin
from ._parameter_validation import check_means, check_mixture_weights, check_positive_definite
from ._seeded import SeededMixture
from ._typing import Acceleration, Arithmetic, CovarianceType, InitParams, Repair
from .conjugate_prior import ConjugatePrior
from .conversion import ConvertibleMixin
from .frame import Frame
from .incremental import IncrementalMixin
from .objective import Objective
from .parameters import Parameters
from .posterior_mode import PosteriorMode, completed
from .sources import Data
from .threads import single_threaded_blas


class GaussianMixture(IncrementalMixin, CriteriaMixin, ConvertibleMixin, SeededMixture):
    """Gaussian mixture fitted by the EM algorithm.

    A drop-in for :class:`sklearn.mixture.GaussianMixture`: the same constructor, methods and attributes, and
    the same map from start to result; clusters found by ``init_params='kmeans'`` may differ, as the seeding
    is our own. `n_jobs`, `repair`, sample weights and the methods named below are additions.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.

    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        Covariances: a matrix for each component, one matrix for all, a diagonal for each, or one variance for
        each.

    tol : float, default=1e-3
        A run has converged when the mean log-likelihood per row changes by less than this. The sum over N
        rows may then still change by N times as much in an iteration, and by a multiple of that in those to
        come. So give ``tol=1 / n_samples`` and a `max_iter` of 1,000 or so to compare mixtures by
        :meth:`bic`, :meth:`aic` or :meth:`icl`: of 100,000 to 1,000,000 rows of five components that overlap
        (nine sets of three features, 3 to 8 components tried) BIC found five in all nine, and in three of
        them with the default.

    reg_covar : float, default=1e-6
        Added to the diagonal of covariances, in squared units of X, beside whose variances it should be small
        (:class:`fastgmm.RegularizationWarning`). At 0 the likelihood never decreases, but for rounding and in
        iterations that repaired a component. With a `prior` nothing is added.

    max_iter : int, default=100
        Most EM iterations of a run. 0: the start is the result.

    n_init : int, default=1
        Number of starts, of which the run with the largest `lower_bound_` is kept. From three on runs race:
        all do 2 iterations, the best fifth of them up to 8, and the best two of these are finished (other
        `init_params` than k-means: 3 iterations, two fifths).

    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How what is not given is started: from clusters, from rows chosen far apart, from random
        responsibilities, from random rows. Where there are many rows for the parameters (32,768 at least, and
        160 per parameter) and neither weights, precisions nor a prior are given, 'kmeans' goes on with EM on
        a sample of about one row in 16, at most `max_iter` iterations; what `fit` counts and reports are
        iterations over all rows, of which far fewer are left (docs/performance.md). ``max_iter=0`` gives the
        clusters.

    weights_init : array-like of shape (n_components,), default=None
        Weights to start from, summing to 1; 0 is legal.

    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from. Given alone, rows are assigned to them for the other parameters.

    precisions_init : array-like, default=None
        Precisions (inverse covariances) to start from, in the shape of `precisions_`.

    random_state : int, RandomState instance or None, default=None
        Draws for starts, and for :meth:`sample`.

    warm_start : bool, default=False
        Whether `fit` continues from the last fit, with the same numbers of components and features.

    verbose : int, default=0
        1: a progress bar; 2: also a line every `verbose_interval` iterations.

    verbose_interval : int, default=10
        Iterations from one line to the next.

    n_jobs : int or None, default=None
        Threads. None: all cores the process may use, within ``OMP_NUM_THREADS`` and threadpoolctl's limits;
        negative numbers count as joblib's, -1 being all. The result does not depend on it, bit for bit.

    repair : {'reseed', 'floor', 'raise'}, default='reseed'
        What happens to a component whose covariance becomes singular or whose rows run out: it starts anew
        elsewhere, its covariance is held at a floor, or :class:`fastgmm.DegenerateComponentError` is raised.

    acceleration : {'anderson'} or None, default=None
        'anderson' combines EM's last steps to longer ones (Walker and Ni 2011): up to several times fewer
        passes where EM crawls, as with few components to a small `tol`; often more passes elsewhere, and not
        always the same optimum (docs/acceleration.md). Steps that lower the likelihood are taken back; their
        passes count in `n_iter_`, their bounds stand in `lower_bounds_`, and ``history_["taken_back"]`` marks
        them. It converges when a step of EM's own gains less than `tol`.

    arithmetic : {'float64', 'float32'}, default='float64'
        Arithmetic of the passes that `fit` makes over float32 rows. 'float32' takes little more than half the
        time up to 16 features or so, and hardly less with 64. Sums over blocks of rows and all parameters are
        float64 still, blocks of rows that need float64 are done in it, and ``history_["pairs_single"]``
        counts what was done in float32. The mean log-likelihood after equal iterations agrees with that of
        'float64' to 1e-6 or better (docs/numerical_contract.md). float64 rows, starts, and all methods but
        `fit` always take float64.

    checkpoint : str, path-like or None, default=None
        File in which `fit` keeps what it needs to go on after its process has ended, whatever the reason. If
        it is there already, `fit` goes on from it, and ends with the same bits as if it had never been
        stopped. The file of another fit is refused, and so is a file that another fit is using now. At the
        end it stays and holds the result: delete it before another fit (docs/long_fits.md).

    checkpoint_every : int, default=10
        Iterations of a run from one time that it is kept to the next.

    max_time : float or None, default=None
        Seconds after which `fit` ends with the best so far: looked at after each iteration, so that at least
        one is done, and between runs. The only option by which a result depends on time.

    prior : 'conjugate', ConjugatePrior or None, default=None
        Prior of means and covariances, of which the mode of the posterior is found instead of the maximum of
        the likelihood (Fraley and Raftery 2007). For few rows: no covariance becomes singular, so that
        components do not collapse, and `reg_covar` is not needed and not used. 'conjugate': all defaults of
        :class:`fastgmm.ConjugatePrior`, which are weak, and follow from X and `n_components`. Weights have no
        prior: a component may lose all its rows. Its mean and covariance are then the prior's mode.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the components.

    means_ : ndarray of shape (n_components, n_features)
        Means of the components.

    covariances_ : ndarray
        Covariances, of a shape that depends on `covariance_type`::

            (n_components, n_features, n_features) if 'full',
            (n_features, n_features)               if 'tied',
            (n_components, n_features)             if 'diag',
            (n_components,)                        if 'spherical'

    precisions_cholesky_ : ndarray
        Factors U, upper triangular, of the precisions U U'; one over standard deviations for 'diag' and
        'spherical'. Same shape. Rows are scored by these.

    precisions_ : ndarray
        Inverse covariances. Same shape.

    converged_ : bool
        Whether the kept run converged.

    n_iter_ : int
        Iterations of the kept run over all rows, and of :meth:`update` since.

    lower_bound_ : float
        Mean log-likelihood per row of the training data, of the parameters before the last M-step. With a
        `prior`, its log-density at these parameters, all constants included, is added to the sum over rows
        before it is divided by their number (the sum of `sample_weight`); that never decreases, but for
        rounding. It compares starts, not priors or numbers of components. :meth:`score` and the criteria
        are of the likelihood alone.

    lower_bounds_ : list of float
        `lower_bound_` of each iteration.

    history_ : dict of list
        What the kept run recorded at each iteration of the last call of `fit`, and :meth:`update` since:
        "lower_bound"; "seconds_pass" and "seconds_estimate", in passes over the rows and beside them;
        "pairs", how often a component was scored for a block of rows, of which "pairs_centred" by the
        projected kernel and "pairs_single" in float32; "second_looks", components whose moments were taken
        again; "repairs"; "taken_back", 1 for an accelerated step that was.

    n_repairs_ : int
        Repairs of components in the kept run, and by :meth:`update` since.

    prior_ : ConjugatePrior or None
        The prior that was used, all of it filled in; None without one.

    n_parameters_ : int
        Number of free parameters.

    n_features_in_ : int
        Number of features seen by `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen by `fit`, where X has names that are all strings.

    See Also
    --------
    sklearn.mixture.GaussianMixture : The estimator this one replaces.

    Notes
    -----
    The attributes are the model: they may be set or edited by hand, and every method reads them anew.
    Parameters are float64, also for float32 rows.

    Rows need not fit into memory: every method that takes X takes a source of rows, too, such as the name of
    a file (docs/big_data.md). :meth:`accumulate` and :meth:`update` are the two halves of an EM iteration,
    for engines of one's own (docs/engines.md).

    Pages named docs/... are at https://github.com/fastgmm/fastgmm/tree/main/docs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> np.sort(mixture.means_, axis=0)
    array([[ 1.,  2.],
           [10.,  2.]])
    >>> first, second = mixture.predict([[0, 0], [12, 3]])
    >>> bool(first != second)
    True

    As many components as rows: with a prior each keeps a width.

    >>> mixture = GaussianMixture(6, prior="conjugate", random_state=0).fit(X)
    >>> bool(mixture.n_repairs_ == 0 and (np.linalg.eigvalsh(mixture.covariances_) > 0.05).all())
    True
    """

    n_components: int
    prior: Literal["conjugate"] | ConjugatePrior | None
    prior_: ConjugatePrior | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SeededMixture._parameter_constraints,
        "prior": [StrOptions({"conjugate"}), ConjugatePrior, None],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: InitParams = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
        repair: Repair = "reseed",
        acceleration: Acceleration | None = None,
        arithmetic: Arithmetic = "float64",
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        max_time: float | None = None,
        prior: Literal["conjugate"] | ConjugatePrior | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_jobs = n_jobs
        self.repair = repair
        self.acceleration = acceleration
        self.arithmetic = arithmetic
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.max_time = max_time
        self.prior = prior

    # ---- what is maximised -------------------------------------------------------------------------------

    _prior_wanted: ClassVar[str] = "use prior='conjugate'"

    def _reg_covar_added(self) -> float:
        return float(self.reg_covar) if self.prior is None else 0.0

    def _given_prior(self, n_features: int) -> ConjugatePrior | None:
        """The prior as far as it is given, checked; None: the likelihood is maximised."""
        if self.prior is None:
            return None
        prior = ConjugatePrior() if isinstance(self.prior, str) else self.prior
        return prior.checked(self._structure(), n_features)

    def _check_start(self, n_features: int, n_rows: int | None = None) -> dict[str, Any]:
        self._given_prior(n_features)
        return super()._check_start(n_features, n_rows)

    def _objective(self, data: Data, frame: Frame | None, options: em.EMOptions) -> Objective | None:
        structure, prior = self._structure(), self._given_prior(data.n_features)
        if prior is None:
            return None
        if not prior.is_complete:
            if frame is None:
                frame = data.frame(options.n_threads, structure.common_scale)
            prior = completed(prior, data, structure, self.n_components, frame, options)
        return PosteriorMode(structure, prior, options.n_threads)

    def _objective_of_update(self, parameters: Parameters, n_threads: int) -> Objective:
        n_features = parameters.means.shape[1]
        prior = self._given_prior(n_features)
        if prior is None:
            return super()._objective_of_update(parameters, n_threads)
        structure = self._structure()
        prior = prior.completed_by(getattr(self, "prior_", None))
        if not prior.is_complete:
            raise ValueError(
                "prior leaves open what only rows can tell, and no fit has found it: prior_ is None. Call "
                "fit on a sample with max_iter=0 first, or give prior=ConjugatePrior(mean=..., scale=...)."
            )
        return PosteriorMode(structure, prior.checked(structure, n_features, "prior_"), n_threads)

    def _attributes_of(self, result: em.EMResult) -> dict[str, Any]:
        prior = None if result.objective is None else result.objective.prior
        return {**super()._attributes_of(result), "prior_": prior}

    # ---- other ways to a mixture -------------------------------------------------------------------------

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        covariance_type: CovarianceType = "full",
        **params: Any,
    ) -> Self:
        """Make a mixture from its parameters, ready to score, label and sample without a fit.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Weights, summing to 1 within 1e-8.

        means : array-like of shape (n_components, n_features)
            Means.

        covariances : array-like
            Covariances, positive definite, in the shape that `covariances_` has for `covariance_type`.

        covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
            Kind of covariances.

        **params : dict
            Other constructor parameters, such as `random_state`; `n_components` follows from `weights`. With
            ``warm_start=True`` a later `fit` starts from these parameters.

        Returns
        -------
        mixture : GaussianMixture
            With copies of the parameters, ``converged_ = False`` and ``n_iter_ = 0``.

        Raises
        ------
        ValueError
            If shapes do not fit together, weights do not sum to 1, or a covariance is not positive definite.

        Examples
        --------
        >>> from fastgmm import GaussianMixture
        >>> mixture = GaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[-3.0], [3.0]], [1.0, 1.0], covariance_type="spherical", random_state=0
        ... )
        >>> mixture.predict([[-2.0], [2.0]])
        array([0, 1])
        """
        n_components = len(np.atleast_1d(np.asarray(weights)))
        mixture = cls(n_components, covariance_type=covariance_type, **params)
        mixture._validate_params()
        structure = mixture._structure()
        weights = check_mixture_weights(weights, "weights", n_components)
        n_features = np.shape(means)[1] if np.ndim(means) == 2 else 1
        means = check_means(means, "means", n_components, n_features)
        shape = structure.covariance_shape(n_components, n_features)
        covariances = check_positive_definite(covariances, "covariances", structure, shape)
        with single_threaded_blas():
            parameters = structure.from_covariances(weights, means, covariances)
            attributes = attributes_of_parameters(structure, parameters)
        mixture.__dict__.update(
            attributes,
            converged_=False,
            n_iter_=0,
            lower_bound_=-np.inf,
            lower_bounds_=[],
            history_={},
            n_repairs_=0,
            prior_=None,
            n_features_in_=n_features,
        )
        return mixture
