# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True, embedsignature=True
"""Greedy k-means++ that looks at the rows a new centre may matter to, and at no others.

Rows are kept in groups by their closest centre c, with the largest distance there is from it. A candidate p
takes a row x from c only if |x - p| < |x - c|, and then |p - c| <= |p - x| + |x - c| < 2 |x - c| (Elkan 2003
for k-means, Raff 2021 for k-means++): groups and rows nearer to their centre than half of |p - c| are passed
over. What is drawn is what a look at all rows would draw: draws go by the same numbers, in the order of rows.

With m rows of D features, K centres and T candidates for each: K^2 T D / 2 multiplications for distances
between centres, and for those of rows at most twice m K T D, which is what a look at all rows takes. Once
clusters are small beside the distances between them, a centre touches the rows about it only.
"""
import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from ._job cimport FG_POINTS, fg_kernels
from ._pass cimport kernels_in_use

# Rows whose shares of the draws are added up together; of those that changed the sum is made anew.
cdef int64_t BLOCK = 256
# Rows whose distances are taken at a time.
cdef enum:
    BATCH = 64
# A row is passed over if its centre is more than twice as far from the point as from the row, squared, and a
# little more than that: a squared distance errs by some D / 2 units in the last place.
cdef double FARTHER = 4.0 * (1.0 + 1e-9)


cdef struct State:
    const fg_kernels *kernels
    const char *x
    ptrdiff_t row_stride, column_stride  # bytes
    int x_is_float32
    int n_features
    int64_t n_rows, n_blocks
    const double *weight       # (m,) or NULL
    double *closest            # (m,) squared distance from the closest centre; 0 for rows of weight 0
    const double *centres      # (K, D)
    const int64_t *every       # (K,) 0, 1, 2, ..
    int64_t *members           # (2 m,) rows of each group; groups that lost rows leave gaps
    int64_t *begin             # (K,) places in members
    int64_t *count             # (K,)
    int64_t end                # of the last group in members
    double *radius             # (K,) largest `closest` of the group
    double *mass               # (n_blocks,) sums of weight * closest
    uint8_t *changed           # (n_blocks,)


cdef inline double share(const State *s, int64_t row) noexcept nogil:
    """What the row is drawn in proportion to."""
    return s.closest[row] if s.weight == NULL else s.weight[row] * s.closest[row]


cdef double total_mass(State *s) noexcept nogil:
    cdef int64_t b, row
    cdef double total = 0.0
    for b in range(s.n_blocks):
        if s.changed[b]:
            s.changed[b] = 0
            s.mass[b] = 0.0
            for row in range(b * BLOCK, min((b + 1) * BLOCK, s.n_rows)):
                s.mass[b] += share(s, row)
        total += s.mass[b]
    return total


cdef int64_t drawn_row(const State *s, double target) noexcept nogil:
    """The first row at which shares add up to more than the target, none of share 0; -1: beyond the last."""
    cdef int64_t b, row
    cdef double before = 0.0
    for b in range(s.n_blocks):
        if before + s.mass[b] <= target:
            before += s.mass[b]
            continue
        for row in range(b * BLOCK, min((b + 1) * BLOCK, s.n_rows)):
            before += share(s, row)
            if before > target and share(s, row) > 0:
                return row
    return -1


cdef int64_t last_row(const State *s) noexcept nogil:
    """The last row of any share: what a draw that rounding took beyond all of them means."""
    cdef int64_t row = s.n_rows - 1
    while row > 0 and not share(s, row) > 0:
        row -= 1
    return row


cdef inline void measure(
    const State *s, const int64_t *rows, int n, const double *points, double *distance,
) noexcept nogil:
    """Squared distances (n, FG_POINTS) of rows to points (D, FG_POINTS)."""
    s.kernels.point_distances(
        s.x, s.row_stride, s.column_stride, s.x_is_float32, s.n_features, rows, n, points, distance)


cdef void fetch(const State *s, const int64_t *rows, int n_sets, double *points) noexcept nogil:
    """Rows as points, n_sets of (D, FG_POINTS)."""
    cdef int p, t, i
    cdef const char *at
    for p in range(n_sets):
        for i in range(s.n_features):
            for t in range(FG_POINTS):
                at = s.x + rows[p * FG_POINTS + t] * s.row_stride + i * s.column_stride
                points[(p * s.n_features + i) * FG_POINTS + t] = (
                    (<const float *>at)[0] if s.x_is_float32 else (<const double *>at)[0])


cdef void begin_with(State *s, const double *points) noexcept nogil:
    """All rows of positive weight in one group, about the first of points."""
    cdef double distance[BATCH * FG_POINTS]
    cdef int64_t row, at
    cdef int n, i
    s.end = 0
    for row in range(s.n_rows):
        if s.weight == NULL or s.weight[row] > 0:
            s.members[s.end] = row
            s.end += 1
    at = 0
    while at < s.end:
        n = <int>min(<int64_t>BATCH, s.end - at)
        measure(s, s.members + at, n, points, distance)
        for i in range(n):
            s.closest[s.members[at + i]] = distance[i * FG_POINTS]
            s.radius[0] = max(s.radius[0], distance[i * FG_POINTS])
        at += n
    s.count[0] = s.end


cdef void count_gains(
    const State *s, const double *points, int n_groups,
    double *between,  # OUT (K, FG_POINTS) squared distances of centres and points
    double *gains,    # OUT (FG_POINTS,) by how much each would lower the sum of weight * closest
) noexcept nogil:
    cdef double distance[BATCH * FG_POINTS]
    cdef int64_t batch[BATCH]
    cdef double nearest, gain, w
    cdef int64_t at, end
    cdef int j, t, i, n
    for t in range(FG_POINTS):
        gains[t] = 0.0
    s.kernels.point_distances(<const char *>s.centres, s.n_features * sizeof(double), sizeof(double), 0,
                              s.n_features, s.every, n_groups, points, between)
    for j in range(n_groups):
        nearest = between[j * FG_POINTS]
        for t in range(1, FG_POINTS):
            nearest = min(nearest, between[j * FG_POINTS + t])
        if nearest > FARTHER * s.radius[j]:
            continue
        at = s.begin[j]
        end = at + s.count[j]
        while at < end:
            n = 0
            while n < BATCH and at < end:
                batch[n] = s.members[at]
                n += nearest <= FARTHER * s.closest[s.members[at]]
                at += 1
            measure(s, batch, n, points, distance)
            for i in range(n):
                w = 1.0 if s.weight == NULL else s.weight[batch[i]]
                for t in range(FG_POINTS):
                    gain = s.closest[batch[i]] - distance[i * FG_POINTS + t]
                    gains[t] += w * (gain if gain > 0.0 else 0.0)


cdef void add_centre(
    State *s, const double *points, int t, const double *between, int k,
) noexcept nogil:
    """Group k: the rows that are closer to point t than to all centres before it."""
    cdef double distance[BATCH * FG_POINTS]
    cdef int64_t batch[BATCH]
    cdef int64_t at, end, row, kept
    cdef double apart, d
    cdef int j, i, n
    s.begin[k] = s.end
    s.radius[k] = 0.0
    for j in range(k):
        apart = between[j * FG_POINTS + t]
        if apart > FARTHER * s.radius[j]:
            continue
        at = kept = s.begin[j]
        end = at + s.count[j]
        s.radius[j] = 0.0
        while at < end:
            n = 0
            while n < BATCH and at < end:
                row = s.members[at]
                at += 1
                if apart <= FARTHER * s.closest[row]:
                    batch[n] = row
                    n += 1
                else:
                    s.members[kept] = row
                    kept += 1
                    s.radius[j] = max(s.radius[j], s.closest[row])
            measure(s, batch, n, points, distance)
            for i in range(n):
                row = batch[i]
                d = distance[i * FG_POINTS + t]
                if d < s.closest[row]:
                    s.closest[row] = d
                    s.changed[row // BLOCK] = 1
                    s.radius[k] = max(s.radius[k], d)
                    s.members[s.end] = row
                    s.end += 1
                else:
                    s.members[kept] = row
                    kept += 1
                    s.radius[j] = max(s.radius[j], s.closest[row])
        s.count[j] = kept - s.begin[j]
    s.count[k] = s.end - s.begin[k]


cdef void close_gaps(State *s, int n_groups, int64_t *spare) noexcept nogil:
    cdef int64_t at = 0
    cdef int j
    for j in range(n_groups):
        memcpy(spare + at, s.members + s.begin[j], s.count[j] * sizeof(int64_t))
        s.begin[j] = at
        at += s.count[j]
    memcpy(s.members, spare, at * sizeof(int64_t))
    s.end = at


cdef int64_t most_moved(const State *s, const double *between, int t, int k) noexcept nogil:
    """Rows in the groups that point t may take rows from."""
    cdef int64_t n = 0
    cdef int j
    for j in range(k):
        if between[j * FG_POINTS + t] <= FARTHER * s.radius[j]:
            n += s.count[j]
    return n


def plus_plus(X, const double[:] weight, int64_t first, const double[:, ::1] uniforms):
    """Centres chosen among rows: the best of T drawn in proportion to w d^2 each time (k-means++).

    Parameters
    ----------
    X : (m, D) float64 or float32 with any strides, in the units that distances are measured in
    weight : (m,) or None; rows of weight 0 are not read
    first : the first centre's row
    uniforms : (K - 1, T) numbers from [0, 1) that make the draws

    Returns
    -------
    (n,) numbers of the rows chosen, n < K where no row is left that is not a centre.
    """
    cdef int64_t m = X.shape[0], row
    cdef int D = X.shape[1], K = uniforms.shape[0] + 1, T = uniforms.shape[1]
    cdef int n_sets = max(1, (T + FG_POINTS - 1) // FG_POINTS), k = 1, p, t, i, best
    cdef const double[:, :] x64
    cdef const float[:, :] x32
    cdef State s
    s.x_is_float32 = X.dtype == np.float32
    if s.x_is_float32:
        x32 = X
        s.x = <const char *>&x32[0, 0]
    else:
        x64 = X
        s.x = <const char *>&x64[0, 0]
    s.row_stride, s.column_stride = X.strides
    cdef const double[::1] w = None if weight is None else np.ascontiguousarray(weight)
    cdef double[::1] closest = np.zeros(m), radius = np.zeros(K), mass = np.zeros((m + BLOCK - 1) // BLOCK)
    cdef double[:, ::1] centres = np.empty((K, D))
    cdef uint8_t[::1] changed = np.ones(mass.shape[0], dtype=np.uint8)
    cdef int64_t[::1] members = np.empty(2 * m, dtype=np.int64), spare = np.empty(m, dtype=np.int64)
    cdef int64_t[:, ::1] groups = np.zeros((2, K), dtype=np.int64)
    cdef int64_t[::1] every = np.arange(K)
    # candidates in sets of FG_POINTS, the last of them filled up with the first candidate
    cdef double[:, :, ::1] points = np.empty((n_sets, D, FG_POINTS))
    cdef double[:, :, ::1] between = np.empty((n_sets, K, FG_POINTS))
    cdef double[:, ::1] gains = np.empty((n_sets, FG_POINTS))
    cdef int64_t[::1] candidates = np.empty(n_sets * FG_POINTS, dtype=np.int64)
    chosen = np.empty(K, dtype=np.int64)
    cdef int64_t[::1] chosen_view = chosen
    s.kernels = kernels_in_use()
    s.n_features, s.n_rows, s.n_blocks = D, m, mass.shape[0]
    s.weight = &w[0] if w is not None else NULL
    s.closest, s.radius, s.centres, s.mass = &closest[0], &radius[0], &centres[0, 0], &mass[0]
    s.changed, s.members, s.every = &changed[0], &members[0], &every[0]
    s.begin, s.count = &groups[0, 0], &groups[1, 0]
    cdef double total
    chosen_view[0] = first
    for p in range(n_sets * FG_POINTS):
        candidates[p] = first
    with nogil:
        fetch(&s, &candidates[0], n_sets, &points[0, 0, 0])
        begin_with(&s, &points[0, 0, 0])
        for i in range(D):
            centres[0, i] = points[0, i, 0]
        while k < K:
            total = total_mass(&s)
            if not total > 0:
                break
            for t in range(T):
                row = drawn_row(&s, uniforms[k - 1, t] * total)
                candidates[t] = row if row >= 0 else last_row(&s)
            for t in range(T, n_sets * FG_POINTS):
                candidates[t] = candidates[0]
            fetch(&s, &candidates[0], n_sets, &points[0, 0, 0])
            for p in range(n_sets):
                count_gains(&s, &points[p, 0, 0], k, &between[p, 0, 0], &gains[p, 0])
            best = 0
            for t in range(1, T):
                if gains[t // FG_POINTS, t % FG_POINTS] > gains[best // FG_POINTS, best % FG_POINTS]:
                    best = t
            p = best // FG_POINTS
            t = best % FG_POINTS
            chosen_view[k] = candidates[best]
            for i in range(D):
                centres[k, i] = points[p, i, t]
            if s.end + most_moved(&s, &between[p, 0, 0], t, k) > 2 * m:
                close_gaps(&s, k, &spare[0])
            add_centre(&s, &points[p, 0, 0], t, &between[p, 0, 0], k)
            k += 1
            if k % 16 == 0:
                with gil:
                    PyErr_CheckSignals()
    return chosen[:k]
