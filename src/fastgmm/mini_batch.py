"""`MiniBatchGaussianMixture`: stepwise EM, over batches of rows or over a stream."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from . import em, stepwise
from ._documentation import page
from ._progress import Progress
from ._scikit_learn import validated
from ._stepping import SteppingMixture
from ._typing import CovarianceType, InitParams, Repair
from .batches import Batches
from .blocks import ArrayData
from .seeding import Start
from .sources import Data

# Rows of a batch where none are asked for: docs/mini_batch.md has the measurements. A batch has to tell each
# component something of its covariance.
FEWEST_ROWS, ROWS_PER_COMPONENT = 1024, 32
_OF_FULL_EM = (
    *("n_init", "verbose_interval", "acceleration", "arithmetic"),
    *("checkpoint", "checkpoint_every", "max_time"),
)


class MiniBatchGaussianMixture(SteppingMixture):
    """Gaussian mixture fitted by stepwise EM: a step after each batch of rows.

    For streams (:meth:`partial_fit`), where rows come for ever and may change, and for data so large that a
    few passes over them are all that can be afforded. Rows that fit into memory are usually better served by
    :class:`GaussianMixture`, which needs no step sizes and ends in an optimum of the likelihood.

    Each batch moves running statistics towards its own, and the parameters are those of the running
    statistics::

        s <- (1 - step) s + step * (statistics of the batch) / (its weight),    step = (t + t0) ** -kappa

    for t = 1, 2, ... (Cappe and Moulines 2009, equation 13). A batch of n rows makes a step of at most
    ``n / (8 * n_components * max(10, n_features + 1))``: running statistics are never of fewer rows than
    covariances take.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.

    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        Covariances: a matrix for each component, one matrix for all, a diagonal for each, or one variance for
        each.

    batch_size : int or None, default=None
        Most rows of a batch in `fit`. None: 32 per component, but at least 1024. `partial_fit` takes what it
        is given as one batch.

    kappa : float, default=0.51
        Exponent of the step, above 0.5 and at most 1. Smaller values forget faster.

    t0 : float, default=150.0
        Offset of the step, at least 0. At 0 the first step is 1, if the batch has rows enough: it forgets all
        but the responsibilities that the start gives to the first batch.

    min_step : float, default=0.0
        Steps are never smaller than this, from 0 to 1, also where a batch has few rows. Above 0 a stream is
        followed at one pace for ever: what was seen n batches ago counts ``(1 - min_step) ** n``.

    averaging : {'epoch', 'steps'} or None, default='epoch'
        What the parameters are made of in the end. 'epoch': after `fit`, of the mean statistics of all
        batches of the last epoch, in which each row counts once as in EM; `partial_fit` has no epochs and
        takes the running statistics. 'steps': of the average of the running statistics over all steps, the
        t-th of which counts in proportion to t (Polyak and Ruppert's averaging, with the weights of Shamir
        and Zhang 2013). It takes noise out of many small steps, and lags behind where a few have to go far.
        None: of the running statistics.

    max_iter : int, default=100
        Most epochs of `fit`: passes over the data. 0: the start is the result.

    tol : float, default=1e-3
        Gain of the mean log-likelihood that an epoch is expected to have. 0: `fit` makes `max_iter` epochs.
        Give ``1 / n_samples`` to compare mixtures by :meth:`bic`, as for :class:`GaussianMixture`.

    max_no_improvement : int, default=2
        Epochs without such a gain over the best one, one after the other, that end `fit`.

    shuffle : bool, default=True
        Whether `fit` spreads each batch over all rows, or over the rows of a part of a source: it takes one
        of every so many, at places drawn anew in each epoch. False: batches are consecutive rows.

    reg_covar : float, default=1e-6
        Added to the diagonal of covariances, in squared units of X.

    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How what is not given is started, as :class:`GaussianMixture` does: `fit` from all rows in memory or
        a sample of a source, `partial_fit` from the first rows. EM on a sample of many rows, which is part
        of 'kmeans', makes at most `max_iter` iterations here, too. 'k-means++' and 'random_from_data' are
        followed by one iteration of EM over those rows, whatever `max_iter`: steps need covariances to begin
        with, and single rows have none. Covariances that `partial_fit` starts with are drawn towards their
        mean, the more the fewer rows they are of.

    weights_init : array-like of shape (n_components,), default=None
        Weights to start from, summing to 1; 0 is legal.

    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from. Given alone, rows are assigned to them for the other parameters.

    precisions_init : array-like, default=None
        Precisions (inverse covariances) to start from, in the shape of `precisions_`.

    random_state : int, RandomState instance or None, default=None
        Draws for starts and for the order of rows, and for :meth:`sample`.

    warm_start : bool, default=False
        Whether `fit` continues from the last fit, its running statistics and its number of steps.

    verbose : int, default=0
        1: a progress bar of epochs; 2: also a line for each.

    n_jobs : int or None, default=None
        Threads, as in :class:`GaussianMixture`. The result does not depend on it, bit for bit.

    repair : {'reseed', 'floor', 'raise'}, default='reseed'
        What happens to a component whose covariance becomes singular or whose weight runs out: it starts anew
        from the heaviest component, its covariance is held at a floor, or
        :class:`fastgmm.DegenerateComponentError` is raised.

    Attributes
    ----------
    weights_, means_, covariances_, precisions_cholesky_, precisions_ : ndarray
        The mixture, as in :class:`GaussianMixture`.

    converged_ : bool
        Whether the last `fit` ended before `max_iter` for want of gains.

    n_iter_ : int
        Epochs of the last `fit`; 0 without one.

    n_steps_ : int
        Steps made so far, t above. It may be set, to a smaller number to follow changed data faster.

    lower_bound_ : float
        Mean log-likelihood per row of the last epoch, or the last batch of `partial_fit`, each batch under
        the parameters before its step.

    lower_bounds_ : list of float
        `lower_bound_` of each epoch of the last `fit`.

    history_ : dict of list
        What the last `fit` recorded at each epoch: "lower_bound"; "seconds_pass" and "seconds_estimate";
        "steps", how many, and "step", the size of the last; "second_looks"; "repairs".

    n_repairs_ : int
        Repairs of components in the last `fit`, and since.

    n_parameters_ : int
        Number of free parameters.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, where X has names that are all strings.

    See Also
    --------
    GaussianMixture : Full EM.

    Notes
    -----
    The attributes are the model: set or edit them, and the next `partial_fit` goes on from what they say.
    A pickled estimator goes on with the same bits. A saved one (:meth:`save`) holds the mixture and the
    number of steps; its running statistics are made of the mixture when it goes on, which is the same but for
    rounding (with ``averaging='steps'``: it goes on from the average).

    What the options do, measured: https://github.com/fastgmm/fastgmm/blob/main/docs/mini_batch.md.

    References
    ----------
    O. Cappe and E. Moulines (2009). On-line expectation-maximization algorithm for latent data models.
    Journal of the Royal Statistical Society B 71, 593-613.

    P. Liang and D. Klein (2009). Online EM for unsupervised models. Proceedings of NAACL, 611-619.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import MiniBatchGaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> mixture = MiniBatchGaussianMixture(n_components=2, random_state=0)
    >>> for _ in range(20):
    ...     batch = rng.normal(size=(500, 1)) + rng.choice([-5.0, 5.0], size=(500, 1))
    ...     mixture = mixture.partial_fit(batch)
    >>> np.sort(mixture.means_, axis=0).round()
    array([[-5.],
           [ 5.]])
    """

    _doc_link_template = page("docs/mini_batch.md")

    n_components: int
    batch_size: int | None
    max_no_improvement: int
    shuffle: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: constraint
            for name, constraint in SteppingMixture._parameter_constraints.items()
            if name not in _OF_FULL_EM
        },
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "kappa": [Interval(Real, 0.5, 1.0, closed="right")],
        "t0": [Interval(Real, 0.0, None, closed="left")],
        "min_step": [Interval(Real, 0.0, 1.0, closed="both")],
        "averaging": [StrOptions({"epoch", "steps"}), None],
        "max_no_improvement": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType = "full",
        batch_size: int | None = None,
        kappa: float = 0.51,
        t0: float = 150.0,
        min_step: float = 0.0,
        averaging: Literal["epoch", "steps"] | None = "epoch",
        max_iter: int = 100,
        tol: float = 1e-3,
        max_no_improvement: int = 2,
        shuffle: bool = True,
        reg_covar: float = 1e-6,
        init_params: InitParams = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        n_jobs: int | None = None,
        repair: Repair = "reseed",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.batch_size = batch_size
        self.kappa = kappa
        self.t0 = t0
        self.min_step = min_step
        self.averaging = averaging
        self.max_iter = max_iter
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.shuffle = shuffle
        self.reg_covar = reg_covar
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.repair = repair

    # ---- fit ---------------------------------------------------------------------------------------------

    @validated
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the parameters of the mixture by stepwise EM over the rows, epoch by epoch.

        Where one batch has all rows there is no noise to average out: all steps are 1, and this is EM, after
        the start that `init_params` says.
        If the fit is interrupted or fails, the attributes stay as they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, at least 2, as :meth:`GaussianMixture.fit` takes them. Sources are read once to be
            checked and measured, and once per epoch.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts; finite and not negative, fractions are fine. A batch makes a step
            in proportion to its weight: one of twice the mean weight one twice as long, at most 1.

        Returns
        -------
        self : object
            The fitted mixture.

        Raises
        ------
        ValueError
            For options, rows, weights or starting arrays that are not valid; for fewer rows of positive
            weight than components; with `repair='raise'`, for a component that collapses.
        TypeError
            For sparse matrices and arrays on another device.

        Warns
        -----
        ConvergenceWarning
            If epochs still gained when `max_iter` was reached, and it is positive.
        RepairWarning
            If components had to be repaired; once, with their numbers.
        RegularizationWarning
            Where `reg_covar` outweighs the rows, as in :meth:`GaussianMixture.fit`.
        """
        self._fit(X, sample_weight)
        return self

    def _best_run(
        self,
        data: Data,
        seeds: ArrayData,
        given: dict[str, Any],
        last: tuple[Any, float] | None,
        random_state: np.random.RandomState,
        options: em.EMOptions,
        checkpoint: Any,  # there is none
    ) -> em.EMResult:
        structure = self._structure()
        frame = data.frame(options.n_threads, structure.common_scale) if options.max_iter else None
        if last is None:
            start = self._make_start(seeds, given, random_state, options, frame)
            start = self._with_covariances(start, seeds, given, options, frame)
            running, bound = stepwise.begin(start.parameters, structure, options.reg_covar), -np.inf
        else:
            start, bound = Start(last[0]), last[1]
            running = self._going_on(start.parameters, options)
        batch_size = self.batch_size
        if batch_size is None:
            batch_size = max(FEWEST_ROWS, ROWS_PER_COMPONENT * self.n_components)
        batches = Batches(data, int(batch_size), self.shuffle, random_state)
        with Progress(type(self).__name__, 0, 1, options.max_iter, self.verbose, 1, data.n_rows) as report:
            result = stepwise.run(
                batches,
                structure,
                running,
                options,
                self._rule(),
                patience=int(self.max_no_improvement),
                previous_bound=bound,
                on_epoch=report,
            )
        result.n_repairs += len(start.repaired)
        result.repaired = tuple(sorted({*result.repaired, *start.repaired}))
        return result
