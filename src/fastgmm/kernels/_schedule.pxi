# The schedule of a pass over blocks and threads, and the fixed order of its sums; a part of _pass.pyx.
#
# Rows are cut into chunks, chunks into blocks. How many rows a block and a chunk have depends on shapes and
# on the constants below, never on the number of threads. Threads take chunks in order; each chunk adds up its
# blocks in order into an accumulator of its own, and accumulators are merged along a binary tree over the
# chunk numbers: whoever finishes the second of two siblings adds the right one to the left one and moves up.
# So the sums have the same bits on any number of threads.
#
# Memory: a thread waits for a free accumulator before it takes a chunk. With threads + log2(chunks) + 2 of
# them nobody can wait for ever: when no chunk is in work, those finished are a prefix of all, and a prefix
# merges into at most log2(chunks) + 1 subtrees.

from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ._job cimport FG_BLOCK_STEP, fg_job, fg_kernels, fg_scratch
from ._threads cimport (
    fg_flag, fg_flag_clear, fg_flag_is_raised, fg_flag_raise,
    fg_lock, fg_lock_destroy, fg_lock_init, fg_lock_set, fg_lock_unset,
    fg_seconds, fg_sleep, fg_yield,
)

# A block's rows: as many as keep its scratch (scratch_per_row) within BLOCK_BYTES, so that a second-level
# cache has room for it and for the coefficients that stream by; but no fewer than SMALLEST_BLOCK, where many
# features or components make it larger than that. Few rows cost time in the sums over lanes at the end of a
# block, one per accumulator: with fewer still, more than the cache gives.
cdef int LARGEST_BLOCK = 4 * FG_BLOCK_STEP
cdef int SMALLEST_BLOCK = FG_BLOCK_STEP
cdef ptrdiff_t BLOCK_BYTES = 512 * 1024
# A chunk's rows: enough that clearing and merging an accumulator (3 memory operations per number) vanishes
# beside the flops spent on it (2 per row), few enough to balance threads.
cdef int64_t SMALLEST_CHUNK = 1024
cdef int64_t LARGEST_CHUNK = 32768
# The accumulators of all chunks together, which are no fewer than those in use at a time: larger ones make
# fewer chunks, of more rows. FEWEST_CHUNKS there may be whatever that takes, or a pass with many parameters
# would run on one thread.
cdef int64_t ACCUMULATOR_BYTES = 256 * 1024 * 1024
cdef int64_t FEWEST_CHUNKS = 4
# Ctrl-C is noticed this often (and between blocks: not within one).
cdef double SECONDS_BETWEEN_POLLS = 0.05
# Who waits lets others run, and after this long sleeps: a sleep takes longer than a pass over few rows.
cdef double SECONDS_OF_YIELDING = 0.01
# Waking a thread and waiting for it costs tens of microseconds: each should have this many flops to do. A
# score costs about as much as NORMALISING_TERMS features on top of its own.
cdef double FLOPS_PER_THREAD = 4e6
cdef int NORMALISING_TERMS = 16


cdef struct Schedule:
    const fg_job *job
    const fg_kernels *kernels
    int64_t begin, end        # rows
    int64_t chunk_rows, n_chunks
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
    int64_t n_finished        # chunks that are merged
    fg_lock lock              # of waiting, free_accumulators, n_free, next_chunk, n_finished
    fg_flag stop              # raised by an interrupt or a failed allocation
    fg_flag out_of_memory


cdef ptrdiff_t scratch_per_row(ptrdiff_t K, ptrdiff_t D, ptrdiff_t P) noexcept nogil:
    """Doubles of scratch per row of a block: rows, features, scores, centred rows twice, weight, common term.

    Centred rows are counted where a pass does without, too: the size of a block, and with it the order of
    the sums, does not depend on what else is wanted of the rows.
    """
    return D + max(D, P) + K + 2 * D + 2


cpdef (int, int64_t, int64_t) plan(
        int64_t n_rows, int n_components, int n_features, int n_terms, ptrdiff_t accumulator_size,
        int block_rows=0, int blocks_at_once=1, int real_bytes=8) noexcept:
    """Rows of a block (unless given), rows of a chunk, number of chunks: functions of shapes alone.

    blocks_at_once : a chunk is made of so many together
    real_bytes : of a number in scratch; 4 in single precision, whose blocks may then have more rows
    """
    cdef ptrdiff_t row_bytes = real_bytes * scratch_per_row(n_components, n_features, n_terms)
    if block_rows == 0:
        block_rows = LARGEST_BLOCK
        while block_rows > SMALLEST_BLOCK and block_rows * row_bytes > BLOCK_BYTES:
            block_rows //= 2
    cdef int64_t most = max(FEWEST_CHUNKS, ACCUMULATOR_BYTES // (8 * accumulator_size))
    cdef int64_t chunk_rows = SMALLEST_CHUNK
    # 64 chunks or so balance any number of threads up to 16; more rows than that make larger chunks first
    while chunk_rows < LARGEST_CHUNK and n_rows > 64 * chunk_rows:
        chunk_rows *= 2
    chunk_rows = max(chunk_rows, (n_rows + most - 1) // most)
    cdef int64_t unit = <int64_t>block_rows * blocks_at_once
    chunk_rows = ((chunk_rows + unit - 1) // unit) * unit
    return block_rows, chunk_rows, max(1, (n_rows + chunk_rows - 1) // chunk_rows)


cdef double *aligned(char **cursor, ptrdiff_t n) noexcept nogil:
    """The next n doubles of a scratch area, at a 64-byte boundary."""
    cdef double *p = <double *>cursor[0]
    cursor[0] += ((n + 7) // 8) * 64
    return p


cdef char *new_scratch(const fg_job *job, int block_rows, fg_scratch *s) noexcept nogil:
    cdef ptrdiff_t D = job.n_features, K = job.n_components, B = block_rows
    cdef ptrdiff_t n_phi = max(D, job.n_terms)
    # Scores are projected a panel at a time, of which FG_BLOCK_STEP rows hold the largest.
    cdef ptrdiff_t n_centred = D * (B if job.n_slots or job.want_scatter else FG_BLOCK_STEP)
    cdef ptrdiff_t n_identity = max(K, D), n_panels = B, i  # no panel has fewer rows than one
    # All of it per row, then best, reach, highest, project, near, nearest, identity, panels, active and
    # by_number; each of the 16 arrays below may be rounded up to 8 doubles.
    cdef ptrdiff_t total = (
        B * scratch_per_row(K, D, job.n_terms) + B + n_phi + 6 * K + n_identity + n_panels + 16 * 8)
    cdef char *memory = <char *>malloc(total * 8 + 64)
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
    s.best = aligned(&cursor, B)
    s.highest = aligned(&cursor, K)
    s.project = <unsigned char *>aligned(&cursor, (K + 7) // 8)
    s.near = <float *>aligned(&cursor, (K + 1) // 2)
    s.nearest = <float *>aligned(&cursor, (K + 1) // 2)
    s.identity = <int *>aligned(&cursor, (n_identity + 1) // 2)
    s.panels = <int *>aligned(&cursor, (n_panels + 1) // 2)
    s.active = <int *>aligned(&cursor, (K + 1) // 2)
    s.by_number = <int *>aligned(&cursor, (K + 1) // 2)
    for i in range(n_identity):
        s.identity[i] = <int>i
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


cdef void poll(Schedule *s, double *polled, void *errors) noexcept nogil:
    """Look for an interrupt unless the last look, at `polled`, was only just."""
    cdef double now = fg_seconds()
    if now - polled[0] > SECONDS_BETWEEN_POLLS:
        polled[0] = now
        if interrupted(errors):
            fg_flag_raise(&s.stop)


cdef void pause(double since) noexcept nogil:
    """Leave the processor to others, in a wait that began at `since`."""
    if fg_seconds() - since < SECONDS_OF_YIELDING:
        fg_yield()
    else:
        fg_sleep()


cdef bint all_finished(Schedule *s) noexcept nogil:
    fg_lock_set(&s.lock)
    cdef bint finished = s.n_finished == s.n_chunks
    fg_lock_unset(&s.lock)
    return finished


cdef void work(Schedule *s, int thread, void *errors) noexcept nogil:
    """What one thread does: take chunks until none is left.

    Thread 0, the caller's, is the one that can notice an interrupt: it stays until the others are done, too.
    """
    cdef fg_scratch scratch
    cdef char *memory = new_scratch(s.job, s.block_rows, &scratch)
    cdef int64_t chunk, row, end
    cdef int mine, n
    cdef double polled = fg_seconds()
    cdef double waiting_since = polled  # for a free accumulator, or for the others
    if memory == NULL:
        fg_flag_raise(&s.out_of_memory)
        fg_flag_raise(&s.stop)
        return
    while not fg_flag_is_raised(&s.stop):
        fg_lock_set(&s.lock)
        if s.next_chunk >= s.n_chunks:
            fg_lock_unset(&s.lock)
            break
        if s.n_free == 0:
            fg_lock_unset(&s.lock)
            pause(waiting_since)
            if thread == 0:
                poll(s, &polled, errors)
            continue
        chunk = s.next_chunk
        s.next_chunk += 1
        s.n_free -= 1
        mine = s.free_accumulators[s.n_free]
        fg_lock_unset(&s.lock)
        memset(s.accumulators + mine * s.job.accumulator_size, 0, s.job.accumulator_size * sizeof(double))
        row = s.begin + chunk * s.chunk_rows
        end = min(row + s.chunk_rows, s.end)
        while row < end and not fg_flag_is_raised(&s.stop):
            n = <int>min(<int64_t>s.block_rows, end - row)
            s.kernels.block(s.job, &scratch, row, n, s.accumulators + mine * s.job.accumulator_size)
            row += n
            if thread == 0:
                poll(s, &polled, errors)
        finish(s, chunk, mine)
        fg_lock_set(&s.lock)
        s.n_finished += 1
        fg_lock_unset(&s.lock)
        waiting_since = fg_seconds()
    free(memory)
    while thread == 0 and not fg_flag_is_raised(&s.stop) and not all_finished(s):
        pause(waiting_since)
        poll(s, &polled, errors)


@cython.final
cdef class Workspace:
    """Memory for accumulators that passes of one fit share: fresh pages cost more than many a pass.

    Not for two passes at a time.
    """
    cdef double *memory
    cdef ptrdiff_t size  # doubles

    cdef double *reserve(self, ptrdiff_t size) noexcept nogil:
        """At least so many doubles, holding anything; NULL if there is no memory."""
        if size > self.size:
            free(self.memory)
            self.memory = <double *>malloc(size * sizeof(double))
            self.size = size if self.memory != NULL else 0
        return self.memory

    def __dealloc__(self):
        free(self.memory)


cdef int run_schedule(Schedule *s, int n_threads, Workspace workspace, void *errors) noexcept nogil:
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
    s.accumulators = workspace.reserve(s.n_accumulators * s.job.accumulator_size)
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
    s.n_finished = 0
    fg_flag_clear(&s.stop)
    fg_flag_clear(&s.out_of_memory)
    s.root = 0
    fg_lock_init(&s.lock)
    if n_threads <= 1:
        work(s, 0, errors)  # without OpenMP: a forked child must not touch its parent's threads
    else:
        with parallel(num_threads=n_threads):
            work(s, threadid(), errors)
    fg_lock_destroy(&s.lock)
    return -1 if fg_flag_is_raised(&s.out_of_memory) else 0
