# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True, embedsignature=True
"""The pass over the rows: what to compute, for which arrays; and the instruction set that does it.

How rows are cut into blocks, shared among threads and added up in a fixed order is in _schedule.pxi; what
happens inside a block is in tiles.h.
"""
import os
import warnings

import numpy as np

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from ._job cimport (
    FG_DIAGONAL, FG_FULL, FG_GIVEN, FG_HEAD, FG_LABELS, FG_LINEAR, FG_LOG_LIKELIHOOD, FG_LOG_MAX, FG_MATRIX,
    FG_NONE, FG_PAIRS, FG_PAIRS_CENTRED, FG_PAIRS_SINGLE, FG_SCALAR, FG_SCORES, FG_SPHERICAL, FG_VECTOR,
    FG_WEIGHT,
    fg_available, fg_job, fg_kernels, fg_single,
)
from ._threads cimport fg_max_threads, fg_openmp_enabled

include "_schedule.pxi"

# The enumerations of job.h that callers need: terms of the feature vector, ...
NO_TERMS, LINEAR, SPHERICAL, DIAGONAL, FULL = FG_NONE, FG_LINEAR, FG_SPHERICAL, FG_DIAGONAL, FG_FULL
# ... shapes of roots and of second moments, ...
SCALAR, VECTOR, MATRIX = FG_SCALAR, FG_VECTOR, FG_MATRIX
# ... places in the 'head' of what Pass.run returns.
LOG_LIKELIHOOD, LOG_MAX, WEIGHT = FG_LOG_LIKELIHOOD, FG_LOG_MAX, FG_WEIGHT
PAIRS, PAIRS_CENTRED, PAIRS_SINGLE = FG_PAIRS, FG_PAIRS_CENTRED, FG_PAIRS_SINGLE
# Blocks have a multiple of so many rows.
BLOCK_STEP = FG_BLOCK_STEP

cdef const fg_kernels *TABLES[8]
cdef int N_TABLES = fg_available(TABLES, 8)
cdef const fg_kernels *kernels = TABLES[N_TABLES - 1]
_kernel_choice = "auto"

cdef object FLOAT32 = np.dtype(np.float32)


cdef const fg_kernels *kernels_in_use() noexcept:
    return kernels


def available_isas():
    """Names of the instruction sets this build and this processor can use, slowest first."""
    return tuple(TABLES[i].name.decode() for i in range(N_TABLES))


def current_isa():
    """Name of the instruction set in use."""
    return kernels.name.decode()


def set_isa(name):
    """Use another instruction set (for tests; not while a pass is running)."""
    global kernels
    for i in range(N_TABLES):
        if TABLES[i].name.decode() == name:
            kernels = TABLES[i]
            return
    raise ValueError(f"instruction set {name!r} is not available here; use one of {available_isas()}")


def kernel_choice():
    """How scores are computed: 'auto' (by the error bound), 'features' or 'centred' (for tests)."""
    return _kernel_choice


def set_kernel_choice(choice):
    """Force one kind of kernel everywhere (for tests)."""
    global _kernel_choice
    if choice not in ("auto", "features", "centred"):
        raise ValueError(f"choice must be 'auto', 'features' or 'centred', not {choice!r}")
    _kernel_choice = choice


def openmp_enabled():
    """Whether the extension was built with OpenMP."""
    return bool(fg_openmp_enabled())


def max_threads():
    """Threads OpenMP would use now (OMP_NUM_THREADS, threadpoolctl limits)."""
    return fg_max_threads()


def _choose_isa_from_environment():
    name = os.environ.get("FASTGMM_ISA")
    if not name:
        return
    try:
        set_isa(name)
    except ValueError:
        warnings.warn(
            f"FASTGMM_ISA={name!r} is not available here (available: {', '.join(available_isas())}); "
            f"using {current_isa()}",
            RuntimeWarning,
            stacklevel=2,
        )


_choose_isa_from_environment()


def vector_exp(const double[::1] x, bint single=False):
    """exp of non-positive numbers by the kernels' own polynomial (for tests)."""
    out = np.empty(x.shape[0])
    cdef double[::1] view = out
    cdef const fg_kernels *table = kernels.single if single else kernels
    if x.shape[0]:
        table.exp_array(&x[0], &view[0], x.shape[0])
    return out


def vector_log(const double[::1] x, bint single=False):
    """log of positive normal numbers by the kernels' own series (for tests)."""
    out = np.empty(x.shape[0])
    cdef double[::1] view = out
    cdef const fg_kernels *table = kernels.single if single else kernels
    if x.shape[0]:
        table.log_array(&x[0], &view[0], x.shape[0])
    return out


cdef inline const double *pointer1(const double[::1] a) noexcept:
    return &a[0] if a is not None and a.shape[0] else NULL


cdef inline const double *pointer2(const double[:, ::1] a) noexcept:
    return &a[0, 0] if a is not None and a.shape[0] and a.shape[1] else NULL


cdef inline const float *floats1(const float[::1] a) noexcept:
    return &a[0] if a is not None and a.shape[0] else NULL


cdef inline const float *floats2(const float[:, ::1] a) noexcept:
    return &a[0, 0] if a is not None and a.shape[0] and a.shape[1] else NULL


def n_terms_of(int terms, int n_features):
    """Terms of phi besides the 1 (job.h)."""
    if terms == FG_FULL:
        return n_features + n_features * (n_features + 1) // 2
    if terms == FG_DIAGONAL:
        return 2 * n_features
    return n_features + 1 if terms == FG_SPHERICAL else n_features if terms == FG_LINEAR else 0


@cython.final
cdef class Pass:
    """One pass over the rows of an array: what to compute, then `run`.

    Parameters are read from `score_map` (fastgmm.score_map.ScoreMap) unless responsibilities are given.
    Arrays must be C-contiguous float64; X float64 or float32 with any strides, native and aligned.
    """
    cdef fg_job job
    cdef list keep            # objects whose memory the job points to
    cdef int64_t n_rows       # that there are, or positions where rows are in order
    cdef int64_t begin, end   # the rows to visit
    cdef int block_rows       # of a block, or 0: by shapes
    cdef bint is_single       # in single precision

    def __init__(self, X, row_weight, frame, int n_components):
        memset(&self.job, 0, sizeof(fg_job))
        self.keep = [X, row_weight, frame]
        self.read(X)
        self.job.n_features = X.shape[1]
        self.job.n_components = n_components
        self.job.row_weight = pointer1(row_weight)
        self.job.shift = pointer1(frame.shift)
        self.job.scale = pointer1(frame.scale)

    cdef read(self, X):
        """Take the rows of X."""
        cdef const double[:, :] x64
        cdef const float[:, :] x32
        self.job.x_is_float32 = X.dtype == FLOAT32
        if self.job.x_is_float32:
            x32 = X
            self.job.x = <const char *>&x32[0, 0]
            self.n_rows = x32.shape[0]
            self.job.row_stride, self.job.column_stride = x32.strides[0], x32.strides[1]
        else:
            x64 = X
            self.job.x = <const char *>&x64[0, 0]
            self.n_rows = x64.shape[0]
            self.job.row_stride, self.job.column_stride = x64.strides[0], x64.strides[1]
        self.begin, self.end = 0, self.n_rows

    def over(self, X, bint hard=False):
        """What `score` was told, over the rows of another array as they lie, unweighted."""
        cdef Pass other = Pass.__new__(Pass)
        other.job = self.job
        other.keep = [X, self.keep]
        other.read(X)
        other.job.row_weight = NULL
        other.job.hard = hard
        return other

    def visit(self, int64_t begin, int64_t end):
        """Visit rows begin <= n < end only; all arrays keep a place for each row of X."""
        if not 0 <= begin <= end <= self.n_rows:
            raise IndexError(f"rows {begin} to {end} of {self.n_rows}")
        self.begin, self.end = begin, end

    def in_order(self, const uint32_t[::1] order not None):
        """Visit these rows, all of positive weight, in this order; `visit` then counts positions.

        Outputs per row are for rows as they lie: there are none but keys.
        """
        self.keep.append(order)
        self.job.order = &order[0]
        self.n_rows = order.shape[0]
        self.begin, self.end = 0, self.n_rows

    def prune(self, float[:, ::1] distance not None, double[::1] least not None,
              const double[::1] drift_shift not None, const double[::1] drift_factor not None,
              const double[::1] margin not None, int block_rows, int blocks_per_bound=1):
        """Score only what may matter; distance (n_bounds, K) and least (n_blocks,) are read and written."""
        if self.job.order == NULL:
            raise TypeError("pruning needs rows in order")
        cdef int64_t n_blocks = least.shape[0]
        if block_rows <= 0 or block_rows % FG_BLOCK_STEP or n_blocks * block_rows < self.n_rows \
                or blocks_per_bound <= 0 or distance.shape[0] * blocks_per_bound < n_blocks:
            raise ValueError("bounds are kept for other blocks than these")
        self.job.n_blocks = n_blocks
        self.job.blocks_per_bound = blocks_per_bound
        self.keep.extend((distance, least, drift_shift, drift_factor, margin))
        self.block_rows = block_rows
        self.job.distance = &distance[0, 0]
        self.job.least = &least[0]
        self.job.drift_shift = &drift_shift[0]
        self.job.drift_factor = &drift_factor[0]
        self.job.margin = &margin[0]

    def score(self, score_map, bint hard=False):
        """Take responsibilities from scores (hard: all to the best)."""
        m = score_map
        K, D = self.job.n_components, self.job.n_features
        for array, columns in ((m.coef, n_terms_of(m.terms, D)), (m.centre, D)):
            if array is not None and array.shape != (K, columns):
                raise ValueError(f"a score map of shape {array.shape} for {K} components of {D} features")
        root = m.root.reshape(-1) if m.root is not None else None
        self.keep.extend((m, root))
        self.job.source = FG_SCORES
        self.job.hard = hard
        self.job.terms = m.terms
        self.job.n_terms = m.coef.shape[1] if m.coef is not None else 0
        self.job.coef = pointer2(m.coef)
        self.job.offset = pointer1(m.offset)
        if _kernel_choice != "features":
            self.job.bound = pointer2(m.bound)
            self.job.bound_offset = pointer1(m.bound_offset)
        self.job.limit = m.limit
        self.job.always_project = m.always_project or (_kernel_choice == "centred" and m.root is not None)
        self.job.project_whole_block = m.project_whole_block
        self.job.error_share = pointer1(m.error_share)
        self.job.largest_error = m.largest_error
        self.job.root_shape = m.root_shape
        self.job.root_is_shared = m.root_is_shared
        self.job.centre = pointer2(m.centre)
        self.job.root = pointer1(root)
        self.job.constant = pointer1(m.constant)
        self.job.common_root = pointer2(m.common_root)
        self.job.common_shape = m.common_shape
        self.job.common_reach = m.common_reach

    def in_single(self, single_map, const float[:, ::1] about, const float[:, ::1] about_low):
        """Score and add up in single precision (fastgmm.single.SingleMap), float32 rows; after `score`.

        The centres of `accumulate` once more, as two floats each, where there are any. Rows get no outputs
        but keys, and the total scatter is not added up.
        """
        m = single_map
        if not self.job.x_is_float32 or self.job.source != FG_SCORES:
            raise TypeError("single precision is for scores of float32 rows")
        self.keep.extend((m, about, about_low))
        cdef fg_single *s = &self.job.single
        s.coef, s.offset, s.offset_low = floats2(m.coef), floats1(m.offset), floats1(m.offset_low)
        s.root, s.constant, s.common_root = floats1(m.root), floats1(m.constant), floats2(m.common_root)
        s.centre, s.centre_low = floats2(m.centre), floats2(m.centre_low)
        s.about, s.about_low = floats2(about), floats2(about_low)
        s.shift, s.shift_low, s.scale = floats1(m.shift), floats1(m.shift_low), floats1(m.scale)
        s.base, s.limit, s.largest_reach = m.base, m.limit, m.largest_reach
        s.roughness, s.largest_roughness = pointer1(m.roughness), m.largest_roughness
        s.largest_error = m.largest_error
        s.slack, s.share, s.feature_share = m.slack, m.share, m.feature_share
        self.is_single = True

    def give_responsibilities(self, const double[:, ::1] given not None):
        """Take responsibilities from an (n_rows, K) array."""
        self.keep.append(given)
        self.job.source = FG_GIVEN
        self.job.given = &given[0, 0]

    def give_labels(self, const int64_t[::1] labels not None):
        """Take responsibilities from labels; a negative label belongs to no component."""
        self.keep.append(labels)
        self.job.source = FG_LABELS
        self.job.labels = &labels[0]

    def accumulate(self, int terms, int n_terms, bint accumulate_terms, const int[::1] slot,
                   const double[:, ::1] about, int moment_shape, bint pooled, bint scatter):
        """Add up weights; features about the origin, moments about centres (slots), the total scatter."""
        if slot is not None and about is None:
            raise TypeError("components with a slot need the points that their moments are taken about")
        self.keep.extend((slot, about))
        cdef int n_slots = 0
        cdef Py_ssize_t k
        self.job.accumulate = 1
        self.job.terms = terms
        self.job.n_terms = n_terms
        self.job.accumulate_terms = accumulate_terms
        if slot is not None:
            for k in range(slot.shape[0]):
                n_slots += slot[k] >= 0
            self.job.slot = &slot[0]
            self.job.about = &about[0, 0]
        self.job.n_slots = n_slots
        self.job.moment_shape = moment_shape
        self.job.moments_are_pooled = pooled
        self.job.want_scatter = scatter

    def write(self, log_density=None, labels=None, responsibilities=None, scores=None, keys=None,
              key_densities=None):
        """Arrays to be filled, one row per row of X.

        keys and key_densities are by position and go together: K * best + second best component, log p.
        """
        cdef double[::1] doubles
        cdef double[:, ::1] table
        cdef int64_t[::1] numbers
        cdef int32_t[::1] pairs
        cdef float[::1] floats
        # not typed above: a view of each would be made for `keep`, and takes longer than the rest of this
        self.keep.append((log_density, labels, responsibilities, scores, keys, key_densities))
        if (keys is None) != (key_densities is None):
            raise TypeError("keys and key_densities go together")
        if keys is not None:
            pairs, floats = keys, key_densities
            self.job.out_key = &pairs[0]
            self.job.out_key_density = &floats[0]
        if log_density is not None:
            doubles = log_density
            self.job.out_log_density = &doubles[0]
        if labels is not None:
            numbers = labels
            self.job.out_labels = &numbers[0]
        if responsibilities is not None:
            table = responsibilities
            self.job.out_responsibilities = &table[0, 0]
        if scores is not None:
            table = scores
            self.job.out_scores = &table[0, 0]

    cpdef int useful_threads(self, int n_threads) noexcept:
        """How many of n_threads have enough to do: a function of shapes and of what is asked for."""
        cdef double K = self.job.n_components, D = self.job.n_features
        # Multiplications per row and component, counted twice: for the score, for the sums.
        cdef double terms = max(<double>self.job.n_terms, D)
        cdef bint projects = self.job.source == FG_SCORES and self.job.always_project
        cdef bint centres = self.job.n_slots > 0
        if projects and self.job.root_shape == FG_MATRIX or centres and self.job.moment_shape == FG_MATRIX:
            terms = max(terms, D * D)
        cdef double flops = 4.0 * (self.end - self.begin) * K * (terms + NORMALISING_TERMS)
        return <int>min(<double>n_threads, 1.0 + flops / FLOPS_PER_THREAD)

    cdef ptrdiff_t n_second(self) noexcept:
        """How many second moments about centres there are."""
        return min(1, self.job.n_slots) if self.job.moments_are_pooled else self.job.n_slots

    cdef ptrdiff_t moment_size(self) noexcept:
        """Numbers of each of them."""
        cdef ptrdiff_t D = self.job.n_features
        if self.job.moment_shape == FG_MATRIX:
            return D * D
        return D if self.job.moment_shape == FG_VECTOR else 1

    cdef void lay_out(self) noexcept:
        """Set where in an accumulator the sums are."""
        cdef ptrdiff_t K = self.job.n_components, D = self.job.n_features, P = self.job.n_terms
        self.job.at_weight = FG_HEAD
        self.job.at_terms = self.job.at_weight + (K if self.job.accumulate else 0)
        self.job.at_first = self.job.at_terms + (K * P if self.job.accumulate_terms else 0)
        self.job.at_second = self.job.at_first + self.job.n_slots * D
        self.job.at_scatter = self.job.at_second + self.n_second() * self.moment_size()
        self.job.accumulator_size = self.job.at_scatter + (D * D if self.job.want_scatter else 0)

    cdef sweep(self, int n_threads, Workspace workspace, double *sums):
        """All blocks; the sums into an array of accumulator_size, unless NULL."""
        if self.job.distance != NULL and (self.begin != 0 or self.end != self.n_rows):
            raise ValueError("bounds are kept for all rows, and so must be visited")
        cdef Schedule s
        memset(&s, 0, sizeof(Schedule))
        s.job = &self.job
        s.kernels = kernels.single if self.is_single else kernels
        s.begin, s.end = self.begin, self.end
        s.block_rows, s.chunk_rows, s.n_chunks = plan(
            self.end - self.begin, self.job.n_components, self.job.n_features, self.job.n_terms,
            self.job.accumulator_size, self.block_rows, max(1, self.job.blocks_per_bound),
            4 if self.is_single else 8)
        n_threads = self.useful_threads(n_threads)
        cdef list errors = []
        cdef int status
        with nogil:
            status = run_schedule(&s, n_threads, workspace, <void *>errors)
        if status == 0 and not errors and sums != NULL:
            memcpy(sums, s.accumulators + s.root * self.job.accumulator_size,
                   self.job.accumulator_size * sizeof(double))
        free(s.free_accumulators)
        free(s.waiting)
        if errors:
            raise errors[0]
        if status != 0:
            raise MemoryError(
                f"no memory for the pass: {s.n_accumulators} accumulators of "
                f"{8 * self.job.accumulator_size} bytes and scratch for {n_threads} threads")

    def fill(self, int n_threads):
        """Do it for the arrays to be filled alone."""
        self.lay_out()
        self.sweep(n_threads, Workspace(), NULL)

    def run(self, int n_threads, Workspace workspace=None):
        """Do it; a dict of sums: 'head' (job.h), 'weight', 'terms', 'first', 'second', 'scatter'."""
        cdef ptrdiff_t K = self.job.n_components, D = self.job.n_features, P = self.job.n_terms
        self.lay_out()
        sums = np.empty(self.job.accumulator_size)
        cdef double[::1] out = sums
        self.sweep(n_threads, Workspace() if workspace is None else workspace, &out[0])
        result = {"head": sums[:FG_HEAD]}
        if self.job.accumulate:
            result["weight"] = sums[self.job.at_weight:self.job.at_terms]
            result["terms"] = sums[self.job.at_terms:self.job.at_first].reshape(K, P) \
                if self.job.accumulate_terms else None
            result["first"] = sums[self.job.at_first:self.job.at_second].reshape(self.job.n_slots, D)
            result["second"] = sums[self.job.at_second:self.job.at_scatter].reshape(
                self.n_second(), self.moment_size())
            result["scatter"] = sums[self.job.at_scatter:].reshape(D, D) if self.job.want_scatter else None
        return result
