# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True, embedsignature=True
"""The pass over the rows: its schedule over blocks and threads, and the fixed order of its sums.

Rows are cut into chunks, chunks into blocks.  How many rows a block and a chunk have depends on shapes and on the
constants below, never on the number of threads.  Threads take chunks in order; each chunk adds up its blocks in order
into an accumulator of its own, and accumulators are merged along a binary tree over the chunk numbers: whoever
finishes the second of two siblings adds the right one to the left one and moves up.  So the sums have the same bits
on any number of threads.

Memory: a thread waits for a free accumulator before it takes a chunk.  With threads + log2(chunks) + 2 of them nobody
can wait for ever: when no chunk is in work, those finished are a prefix of all, and a prefix merges into at most
log2(chunks) + 1 subtrees.

What happens inside a block is in tiles.h.
"""
import os
import warnings

import numpy as np

cimport cython
from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from cpython.exc cimport PyErr_CheckSignals

from ._job cimport (
    FG_FULL, FG_GIVEN, FG_HEAD, FG_LABELS, FG_NONE, FG_SCORES, fg_available, fg_job, fg_kernels, fg_scratch,
)
from ._openmp cimport (
    fg_lock, fg_lock_destroy, fg_lock_init, fg_lock_set, fg_lock_unset, fg_max_threads, fg_openmp_enabled,
    fg_seconds, fg_yield,
)

# A block's rows: a multiple of 96 (every instruction set's panel divides it), as many as keep its scratch within a
# second-level cache, with room to spare. Few rows cost time in the sums over lanes at the end of a block, one per accumulator.
cdef int LARGEST_BLOCK = 384
cdef int SMALLEST_BLOCK = 96
cdef ptrdiff_t BLOCK_BYTES = 320 * 1024
# A chunk's rows: enough that clearing and merging an accumulator (3 memory operations per number) vanishes beside the
# flops spent on it (2 per row), few enough to balance threads and to notice Ctrl-C.
cdef int64_t SMALLEST_CHUNK = 1024
cdef int64_t LARGEST_CHUNK = 32768
# All accumulators together; with larger ones there are fewer chunks.
cdef int64_t ACCUMULATOR_BYTES = 128 * 1024 * 1024
cdef double SECONDS_BETWEEN_POLLS = 0.05

cdef const fg_kernels *TABLES[8]
cdef int N_TABLES = fg_available(TABLES, 8)
cdef const fg_kernels *kernels = TABLES[N_TABLES - 1]
_kernel_choice = "auto"


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


def vector_exp(const double[::1] x):
    """exp of non-positive numbers by the kernels' own polynomial (for tests)."""
    out = np.empty(x.shape[0])
    cdef double[::1] view = out
    if x.shape[0]:
        kernels.exp_array(&x[0], &view[0], x.shape[0])
    return out


def vector_log(const double[::1] x):
    """log of positive normal numbers by the kernels' own series (for tests)."""
    out = np.empty(x.shape[0])
    cdef double[::1] view = out
    if x.shape[0]:
        kernels.log_array(&x[0], &view[0], x.shape[0])
    return out


# ---- schedule ---------------------------------------------------------------------------------------------------

cdef struct Schedule:
    const fg_job *job
    const fg_kernels *kernels
    int64_t n_rows, chunk_rows, n_chunks
    int block_rows, n_levels
    int n_accumulators
    double *accumulators
    int *free_accumulators    # stack
    int n_free
    int64_t level_size[64]    # nodes on each level of the tree
    int64_t level_start[64]   # where they begin in `waiting`
    int *waiting              # accumulator of a finished node whose sibling is not finished, or -1
    int root                  # accumulator of the whole
    int64_t next_chunk
    fg_lock lock
    int stop                  # set by an interrupt or a failed allocation
    int out_of_memory


def plan(int64_t n_rows, int n_components, int n_features, int n_terms, ptrdiff_t accumulator_size):
    """Rows of a block, rows of a chunk, number of chunks: functions of shapes alone."""
    cdef int block_rows = LARGEST_BLOCK
    cdef ptrdiff_t doubles = max(n_terms, n_features) + n_components + n_features
    while block_rows > SMALLEST_BLOCK and block_rows * doubles * 8 > BLOCK_BYTES:
        block_rows //= 2
    cdef int64_t most = max(1, ACCUMULATOR_BYTES // (8 * accumulator_size))
    cdef int64_t chunk_rows = SMALLEST_CHUNK
    # 64 chunks or so balance any number of threads up to 16; more rows than that make larger chunks first
    while chunk_rows < LARGEST_CHUNK and n_rows > 64 * chunk_rows:
        chunk_rows *= 2
    while (n_rows + chunk_rows - 1) // chunk_rows > most:
        chunk_rows *= 2
    chunk_rows = ((chunk_rows + block_rows - 1) // block_rows) * block_rows
    return block_rows, chunk_rows, max(1, (n_rows + chunk_rows - 1) // chunk_rows)


cdef double *aligned(char **cursor, ptrdiff_t n) noexcept nogil:
    """The next n doubles of a scratch area, at a 64-byte boundary."""
    cdef double *p = <double *>cursor[0]
    cursor[0] += ((n + 7) // 8) * 64
    return p


cdef char *new_scratch(const fg_job *job, int block_rows, fg_scratch *s) noexcept nogil:
    cdef ptrdiff_t D = job.n_features, K = job.n_components, B = block_rows
    cdef ptrdiff_t n_phi = max(D, job.n_terms)
    cdef ptrdiff_t n_centred = D * B if job.n_slots or job.want_scatter else D * 64
    cdef ptrdiff_t total = B * (D + n_phi + K + 8) + 2 * n_centred + n_phi + K + 128
    cdef char *memory = <char *>malloc((total + 8) * 8 + 64)
    if memory == NULL:
        return NULL
    cdef char *cursor = <char *>(((<uintptr_t>memory + 63) // 64) * 64)
    s.block_rows = block_rows
    s.raw = aligned(&cursor, D * B)
    s.phi = aligned(&cursor, n_phi * B)
    s.resp = aligned(&cursor, K * B)
    s.centred = aligned(&cursor, n_centred)
    s.weighted = aligned(&cursor, n_centred)
    s.row = aligned(&cursor, 2 * B)
    s.reach = aligned(&cursor, n_phi)
    s.project = <unsigned char *>aligned(&cursor, (K + 7) // 8)
    return memory


cdef int interrupted(void *errors) noexcept with gil:
    """Run Python's signal handlers; an exception they raise is kept for later and ends the pass."""
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<list>errors).append(error)
        return 1
    return 0


cdef void finish(Schedule *s, int64_t chunk, int mine) noexcept nogil:
    """Merge a finished chunk into the tree, as far up as siblings are there."""
    cdef int level = 0, other, left, right
    cdef int64_t i = chunk, sibling
    cdef ptrdiff_t size = s.job.accumulator_size, j
    cdef double *to
    cdef double *source
    while level < s.n_levels - 1:
        sibling = i ^ 1
        if sibling < s.level_size[level]:
            fg_lock_set(&s.lock)
            other = s.waiting[s.level_start[level] + sibling]
            if other < 0:
                s.waiting[s.level_start[level] + i] = mine
                fg_lock_unset(&s.lock)
                return
            fg_lock_unset(&s.lock)
            left, right = (mine, other) if i < sibling else (other, mine)
            to = s.accumulators + left * size
            source = s.accumulators + right * size
            for j in range(size):
                to[j] += source[j]
            fg_lock_set(&s.lock)
            s.free_accumulators[s.n_free] = right
            s.n_free += 1
            fg_lock_unset(&s.lock)
            mine = left
        i >>= 1
        level += 1
    s.root = mine


cdef void work(Schedule *s, int thread, void *errors) noexcept nogil:
    """What one thread does: take chunks until none is left."""
    cdef fg_scratch scratch
    cdef char *memory = new_scratch(s.job, s.block_rows, &scratch)
    cdef int64_t chunk, row, end
    cdef int mine, n
    cdef double polled = fg_seconds(), now
    if memory == NULL:
        s.out_of_memory = 1
        s.stop = 1
        return
    while not s.stop:
        fg_lock_set(&s.lock)
        if s.next_chunk >= s.n_chunks:
            fg_lock_unset(&s.lock)
            break
        if s.n_free == 0:
            fg_lock_unset(&s.lock)
            fg_yield()
            continue
        chunk = s.next_chunk
        s.next_chunk += 1
        s.n_free -= 1
        mine = s.free_accumulators[s.n_free]
        fg_lock_unset(&s.lock)
        memset(s.accumulators + mine * s.job.accumulator_size, 0, s.job.accumulator_size * sizeof(double))
        row = chunk * s.chunk_rows
        end = min(row + s.chunk_rows, s.n_rows)
        while row < end and not s.stop:
            n = <int>min(<int64_t>s.block_rows, end - row)
            s.kernels.block(s.job, &scratch, row, n, s.accumulators + mine * s.job.accumulator_size)
            row += n
            if thread == 0:
                now = fg_seconds()
                if now - polled > SECONDS_BETWEEN_POLLS or now < polled:
                    polled = now
                    if interrupted(errors):
                        s.stop = 1
        finish(s, chunk, mine)
    free(memory)


cdef int run_schedule(Schedule *s, int n_threads, void *errors) noexcept nogil:
    """All chunks; 0, or -1 when memory ran out. s.root then holds the sums."""
    cdef int64_t size = s.n_chunks, total = 0
    cdef int64_t i
    cdef int log2 = 0
    s.n_levels = 0
    while True:
        s.level_size[s.n_levels] = size
        s.level_start[s.n_levels] = total
        s.n_levels += 1
        total += size
        if size == 1:
            break
        size = (size + 1) // 2
        log2 += 1
    if n_threads > s.n_chunks:
        n_threads = <int>s.n_chunks
    s.n_accumulators = <int>min(s.n_chunks, <int64_t>(n_threads + log2 + 2))
    s.accumulators = <double *>malloc(s.n_accumulators * s.job.accumulator_size * sizeof(double))
    s.free_accumulators = <int *>malloc(s.n_accumulators * sizeof(int))
    s.waiting = <int *>malloc(total * sizeof(int))
    if s.accumulators == NULL or s.free_accumulators == NULL or s.waiting == NULL:
        return -1
    for i in range(s.n_accumulators):
        s.free_accumulators[i] = <int>(s.n_accumulators - 1 - i)
    s.n_free = s.n_accumulators
    for i in range(total):
        s.waiting[i] = -1
    s.next_chunk = 0
    s.stop = 0
    s.out_of_memory = 0
    s.root = 0
    fg_lock_init(&s.lock)
    if n_threads <= 1:
        work(s, 0, errors)  # without OpenMP: a forked child must not touch its parent's threads
    else:
        with parallel(num_threads=n_threads):
            work(s, threadid(), errors)
    fg_lock_destroy(&s.lock)
    return -1 if s.out_of_memory else 0


cdef inline const double *pointer1(const double[::1] a) noexcept:
    return &a[0] if a is not None and a.shape[0] else NULL


cdef inline const double *pointer2(const double[:, ::1] a) noexcept:
    return &a[0, 0] if a is not None and a.shape[0] and a.shape[1] else NULL


@cython.final
cdef class Pass:
    """One pass over the rows of an array: what to compute, then `run`.

    Parameters are read from `score_map` (fastgmm.score_map.ScoreMap) unless responsibilities are given.
    Arrays must be C-contiguous float64; X float64 or float32 with any strides, native and aligned.
    """
    cdef fg_job job
    cdef list keep            # objects whose memory the job points to
    cdef int64_t n_rows
    cdef readonly ptrdiff_t accumulator_size

    def __init__(self, X, row_weight, frame, int n_components):
        memset(&self.job, 0, sizeof(fg_job))
        self.keep = [X, row_weight, frame]
        cdef const double[:, :] x64
        cdef const float[:, :] x32
        if X.dtype == np.float32:
            x32 = X
            self.job.x = <const char *>&x32[0, 0]
            self.job.x_is_float32 = 1
        else:
            x64 = X
            self.job.x = <const char *>&x64[0, 0]
        self.n_rows = X.shape[0]
        self.job.row_stride, self.job.column_stride = X.strides
        self.job.n_features = X.shape[1]
        self.job.n_components = n_components
        self.job.row_weight = pointer1(row_weight)
        self.job.shift = pointer1(frame.shift)
        self.job.scale = pointer1(frame.scale)

    def score(self, score_map, bint hard=False, bint entropy=False):
        """Take responsibilities from scores (hard: all to the best)."""
        m = score_map
        self.keep.append(m)
        self.job.source = FG_SCORES
        self.job.hard = hard
        self.job.want_entropy = entropy
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
        self.job.root_shape = m.root_shape
        self.job.root_is_shared = m.root_is_shared
        self.job.centre = pointer2(m.centre)
        self.job.root = pointer1(m.root.reshape(-1)) if m.root is not None else NULL
        self.job.constant = pointer1(m.constant)
        self.job.common_root = pointer2(m.common_root)
        self.job.common_abs = pointer2(m.common_abs)

    def give_responsibilities(self, const double[:, ::1] given):
        """Take responsibilities from an (n_rows, K) array."""
        self.keep.append(given)
        self.job.source = FG_GIVEN
        self.job.given = &given[0, 0]

    def give_labels(self, const int64_t[::1] labels):
        """Take responsibilities from labels; a negative label belongs to no component."""
        self.keep.append(labels)
        self.job.source = FG_LABELS
        self.job.labels = &labels[0]

    def accumulate(self, int terms, int n_terms, bint accumulate_terms, const int[::1] slot,
                   const double[:, ::1] about, int moment_shape, bint pooled, bint scatter):
        """Add up weights, and: features about the origin, moments about centres (slots), the total scatter."""
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

    def write(self, double[::1] log_density=None, int64_t[::1] labels=None, double[:, ::1] responsibilities=None,
              double[:, ::1] scores=None):
        """Arrays to be filled, one row per row of X."""
        self.keep.extend((log_density, labels, responsibilities, scores))
        if log_density is not None:
            self.job.out_log_density = &log_density[0]
        if labels is not None:
            self.job.out_labels = &labels[0]
        if responsibilities is not None:
            self.job.out_responsibilities = &responsibilities[0, 0]
        if scores is not None:
            self.job.out_scores = &scores[0, 0]

    def run(self, int n_threads):
        """Do it; a dict of sums: 'head' (job.h), 'weight', 'terms', 'first', 'second', 'scatter'."""
        cdef ptrdiff_t K = self.job.n_components, D = self.job.n_features, P = self.job.n_terms
        cdef ptrdiff_t n_second = self.job.n_slots
        if n_second and self.job.moments_are_pooled:
            n_second = 1
        cdef ptrdiff_t moment_size = 1
        if self.job.moment_shape == 1:
            moment_size = D
        elif self.job.moment_shape == 2:
            moment_size = D * D
        self.job.at_weight = FG_HEAD
        self.job.at_terms = self.job.at_weight + (K if self.job.accumulate else 0)
        self.job.at_first = self.job.at_terms + (K * P if self.job.accumulate_terms else 0)
        self.job.at_second = self.job.at_first + self.job.n_slots * D
        self.job.at_scatter = self.job.at_second + n_second * moment_size
        self.job.accumulator_size = self.job.at_scatter + (D * D if self.job.want_scatter else 0)

        cdef Schedule s
        memset(&s, 0, sizeof(Schedule))
        s.job = &self.job
        s.kernels = kernels
        s.n_rows = self.n_rows
        s.block_rows, s.chunk_rows, s.n_chunks = plan(
            self.n_rows, self.job.n_components, self.job.n_features, self.job.n_terms, self.job.accumulator_size)
        sums = np.empty(self.job.accumulator_size)
        cdef double[::1] out = sums
        cdef list errors = []
        cdef int status
        cdef ptrdiff_t i
        with nogil:
            status = run_schedule(&s, n_threads, <void *>errors)
        if status == 0 and not errors:
            for i in range(self.job.accumulator_size):
                out[i] = s.accumulators[s.root * self.job.accumulator_size + i]
        free(s.accumulators)
        free(s.free_accumulators)
        free(s.waiting)
        if errors:
            raise errors[0]
        if status != 0:
            raise MemoryError(
                f"no memory for the pass: {s.n_accumulators} accumulators of "
                f"{8 * self.job.accumulator_size} bytes and scratch for {n_threads} threads")
        result = {"head": sums[:FG_HEAD]}
        if self.job.accumulate:
            result["weight"] = sums[self.job.at_weight:self.job.at_terms]
            result["terms"] = sums[self.job.at_terms:self.job.at_first].reshape(K if P else 0, -1) \
                if self.job.accumulate_terms else None
            result["first"] = sums[self.job.at_first:self.job.at_second].reshape(self.job.n_slots, D)
            result["second"] = sums[self.job.at_second:self.job.at_scatter].reshape(n_second, moment_size)
            result["scatter"] = sums[self.job.at_scatter:].reshape(D, D) if self.job.want_scatter else None
        return result
