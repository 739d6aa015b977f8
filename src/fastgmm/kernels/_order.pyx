# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True, embedsignature=True
"""Rows in the order of their components, and what is known of blocks of rows after they were re-sorted."""
import numpy as np

from cython.parallel cimport prange, threadid
from libc.math cimport fabsf, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.string cimport memcpy, memset

ctypedef fused real:
    float
    double


# Digits of the radix sort: three of 11 bits for 32.
cdef int DIGIT_BITS = 11
cdef int DIGITS = 1 << DIGIT_BITS


cdef inline uint32_t sortable(float x) noexcept nogil:
    """Bits that sort as unsigned integers as x sorts."""
    cdef uint32_t bits
    memcpy(&bits, &x, sizeof(bits))
    return ~bits if bits >> 31 else bits | (<uint32_t>1 << 31)


cdef void sort_group(
    uint32_t *positions,        # IN, OUT (n,)
    int64_t n,
    const int32_t *keys,        # IN, by position: K * best + second best
    const float *density,   # IN, by position
    int n_components,
    uint32_t *scratch,          # (n,)
    int64_t *place,             # SCRATCH (max(DIGITS, n_components) + 1,)
) noexcept nogil:
    """Rows of one component by second best component and density: a radix sort from the last digit on."""
    cdef int digit, value, n_values
    cdef int64_t i, total, count
    cdef uint32_t *swap
    for digit in range(4):
        n_values = n_components if digit == 3 else DIGITS
        memset(place, 0, (n_values + 1) * sizeof(int64_t))
        for i in range(n):
            place[digit_of(positions[i], digit, keys, density, n_components)] += 1
        total = 0
        for value in range(n_values):
            count = place[value]
            place[value] = total
            total += count
        for i in range(n):
            value = digit_of(positions[i], digit, keys, density, n_components)
            scratch[place[value]] = positions[i]
            place[value] += 1
        swap = positions
        positions = scratch
        scratch = swap
    # an even number of passes: what is sorted lies where it was


cdef inline int digit_of(
    uint32_t position, int digit, const int32_t *keys, const float *density, int n_components,
) noexcept nogil:
    if digit == 3:
        return keys[position] % n_components
    return <int>((sortable(density[position]) >> (DIGIT_BITS * digit)) & (DIGITS - 1))


def sorted_positions(
    const int32_t[::1] keys, const float[::1] density, int n_components, int n_threads,
):
    """Positions (n,) uint32 sorted by best component, second best and density; keys: K * best + second."""
    cdef int64_t n = keys.shape[0], i
    cdef int k, t, used = max(1, min(n_threads, n_components))
    positions = np.empty(n, dtype=np.uint32)
    ends = np.zeros(n_components + 1, dtype=np.int64)  # where the rows of each component begin, and all end
    cdef uint32_t[::1] p = positions
    cdef int64_t[::1] end = ends
    with nogil:
        for i in range(n):
            end[keys[i] // n_components + 1] += 1
        for k in range(n_components):
            end[k + 1] += end[k]
    begins = ends.copy()
    cdef int64_t[::1] begin = begins
    with nogil:
        for i in range(n):
            k = keys[i] // n_components
            p[begin[k]] = <uint32_t>i
            begin[k] += 1
    scratch = np.empty((used, int(np.diff(ends).max())), dtype=np.uint32)
    places = np.empty((used, max(DIGITS, n_components) + 1), dtype=np.int64)
    cdef uint32_t[:, ::1] spare = scratch
    cdef int64_t[:, ::1] place = places
    if used <= 1:  # without OpenMP: a forked child must not touch its parent's threads
        for k in range(n_components):
            sort_group(&p[0] + end[k], end[k + 1] - end[k], &keys[0], &density[0], n_components,
                       &spare[0, 0], &place[0, 0])
    else:
        for k in prange(n_components, nogil=True, num_threads=used, schedule="dynamic"):
            t = threadid()
            sort_group(&p[0] + end[k], end[k + 1] - end[k], &keys[0], &density[0], n_components,
                       &spare[t, 0], &place[t, 0])
    return positions


cdef void inherit_bound(
    const float[:, ::1] distance, const uint32_t[::1] positions, int64_t first, int64_t end, int rows,  # IN
    float *new_distance,                                                                                # OUT
) noexcept nogil:
    cdef int64_t i, bound, last = -1
    cdef Py_ssize_t k
    for i in range(first, end):
        bound = positions[i] // rows
        if bound == last:
            continue
        last = bound
        for k in range(distance.shape[1]):
            new_distance[k] = max(new_distance[k], -fabsf(distance[bound, k]))


def inherited_bounds(
    const float[:, ::1] distance, const uint32_t[::1] positions, int rows, int n_threads,
):
    """Bounds of so many rows each that stood at `positions` before: minus the least of those they had."""
    cdef int64_t n = positions.shape[0], n_bounds = distance.shape[0], b
    new_distance = np.full((distance.shape[0], distance.shape[1]), -np.inf, dtype=np.float32)
    cdef float[:, ::1] d = new_distance
    if n_threads <= 1:  # without OpenMP: a forked child must not touch its parent's threads
        for b in range(n_bounds):
            inherit_bound(distance, positions, b * rows, min((b + 1) * rows, n), rows, &d[b, 0])
    else:
        for b in prange(n_bounds, nogil=True, num_threads=n_threads, schedule="static"):
            inherit_bound(distance, positions, b * rows, min((b + 1) * rows, n), rows, &d[b, 0])
    return new_distance


def inherited_least(const double[::1] least, const uint32_t[::1] positions, int rows):
    """The least of what was known of the blocks that the rows of each block come from, (n_blocks,)."""
    cdef int64_t n = positions.shape[0], i, block
    new_least = np.full(least.shape[0], np.inf)
    cdef double[::1] m = new_least
    with nogil:
        for i in range(n):
            block = i // rows
            m[block] = min(m[block], least[positions[i] // rows])
    return new_least


cdef void mark_block(
    const int32_t[::1] keys, const uint32_t[::1] positions, int64_t first, int64_t end,  # IN
    float *distance,                                                                     # IN, OUT
    int n_components,
) noexcept nogil:
    cdef int64_t i
    cdef int32_t key, last = -1
    for i in range(first, end):
        key = keys[positions[i]]
        if key != last:
            distance[key // n_components] = fabsf(distance[key // n_components])
            distance[key % n_components] = fabsf(distance[key % n_components])
            last = key


def mark_near(
    float[:, ::1] distance, const int32_t[::1] keys, const uint32_t[::1] positions, int block_rows,
    int n_threads,
):
    """Bounds above 0 for the best and the second best component of each row of a block."""
    cdef int64_t n = positions.shape[0], n_blocks = distance.shape[0], b
    cdef int K = <int>distance.shape[1]
    if n_threads <= 1:  # without OpenMP: a forked child must not touch its parent's threads
        for b in range(n_blocks):
            mark_block(keys, positions, b * block_rows, min((b + 1) * block_rows, n), &distance[b, 0], K)
    else:
        for b in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
            mark_block(keys, positions, b * block_rows, min((b + 1) * block_rows, n), &distance[b, 0], K)


cdef void ball_of(
    const real[:, :] X, const uint32_t[::1] order, const double[::1] shift, const double[::1] scale,
    int64_t first, int64_t end,           # IN
    double *centre, double *radius,       # OUT (D,), (1,)
) noexcept nogil:
    cdef Py_ssize_t D = X.shape[1], i
    cdef int64_t n
    cdef double d, square, largest = 0.0
    for i in range(D):
        centre[i] = 0.0
    for n in range(first, end):
        for i in range(D):
            centre[i] += (X[order[n], i] - shift[i]) * scale[i]
    for i in range(D):
        centre[i] /= end - first
    for n in range(first, end):
        square = 0.0
        for i in range(D):
            d = (X[order[n], i] - shift[i]) * scale[i] - centre[i]
            square += d * d
        largest = max(largest, square)
    radius[0] = sqrt(largest)


def block_balls(
    const real[:, :] X, const uint32_t[::1] order, const double[::1] shift, const double[::1] scale,
    int block_rows, int n_threads,
):
    """Balls about the means of blocks of rows in order, in the frame: centres (n_blocks, D), radii."""
    cdef int64_t n = order.shape[0], n_blocks = (n + block_rows - 1) // block_rows, b
    centres = np.empty((n_blocks, X.shape[1]))
    radii = np.empty(n_blocks)
    cdef double[:, ::1] c = centres
    cdef double[::1] r = radii
    if n_threads <= 1:  # without OpenMP: a forked child must not touch its parent's threads
        for b in range(n_blocks):
            ball_of(X, order, shift, scale, b * block_rows, min((b + 1) * block_rows, n), &c[b, 0], &r[b])
    else:
        for b in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
            ball_of(X, order, shift, scale, b * block_rows, min((b + 1) * block_rows, n), &c[b, 0], &r[b])
    return centres, radii
