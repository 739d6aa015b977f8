/* One block of rows through the pass:  pack > score > normalise > accumulate.
 *
 * Compiled once per instruction set (tiles_base.c, tiles_v3.c, tiles_v4.c) and once more for each in single precision
 * (tiles_*_single.c), which define FG_SINGLE or not, FG_LANES (reals in a vector), FG_SCORE_VECTORS, FG_DOT_ROWS,
 * FG_NAME and FG_TABLE.  job.h says what the arguments mean.
 *
 * With N rows, K components and P features the two products cost 2NKP flops each; normalising costs N K
 * exponentials, packing N D, features N P.  A block is small enough for its features to stay in cache between the
 * two products.  Rows beyond the last are padding: they get weight 0 and never reach an output.
 */
#include "tiles_products.h"
#include "tiles_pack.h"
#ifndef FG_SINGLE
#include "tiles_points.h"
#endif

_Static_assert(FG_BLOCK_STEP % FG_PANEL == 0, "blocks are made of whole panels");

/* A number to subtract from many; in single precision with what rounding left over. */
typedef struct {
    vec high, low;
} point;

FG_INLINE point point_at(const real *high, const real *low, int i)
{
    return (point){splat(high[i]), splat(FG_IS_SINGLE ? low[i] : 0)};
}

FG_INLINE vec less(vec a, point b) { return FG_IS_SINGLE ? (a - b.high) - b.low : a - b.high; }

/* z into the first D rows of phi; reach_i = max |z_i|. */
static void to_frame(const fg_job *job, const scratch *s, int n_panels, int n_rows_phi)
{
    const int D = job->n_features;
    for (int i = 0; i < D; i++) {
        const point shift = point_at(FG_OF(job, shift), FG_LOW(job, shift), i);
        const vec scale = splat(FG_OF(job, scale)[i]);
        vec reach = splat(0.0);
        for (int q = 0; q < n_panels; q++) {
            const real *raw = s->raw + ((ptrdiff_t)q * D + i) * FG_PANEL;
            real *z = s->phi + ((ptrdiff_t)q * n_rows_phi + i) * FG_PANEL;
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++) {
                const vec zv = less(load(raw + v * FG_LANES), shift) * scale;
                store(z + v * FG_LANES, zv);
                reach = vmax(reach, vabs(zv));
            }
        }
        real r = 0;
        for (int l = 0; l < FG_LANES; l++)
            r = r > reach[l] ? r : reach[l];
        s->reach[i] = r;
    }
}

/* The term common to all components, and the largest |y| of the block (0 where there is no such term). */
static double common_term(const fg_job *job, const scratch *s, int n_panels, int n_rows_phi, real *common)
{
    vec furthest = splat(0.0);
    for (int q = 0; q < n_panels; q++) {
        vec distance[FG_VECTORS];
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            distance[v] = splat(0.0);
        const real *z = s->phi + (ptrdiff_t)q * n_rows_phi * FG_PANEL;
        const real *root = FG_OF(job, common_root);
        if (job->common_root && job->common_shape == FG_MATRIX)
            distance_panel(job->n_features, 0, job->n_features, root, z, distance);
        for (int i = 0; job->common_root && job->common_shape == FG_VECTOR && i < job->n_features; i++) {
            const vec u = splat(root[i]);
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++) {
                const vec y = u * load(z + i * FG_PANEL + v * FG_LANES);
                distance[v] += y * y;
            }
        }
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            store(common + q * FG_PANEL + v * FG_LANES, (real)-0.5 * distance[v]);
            furthest = vmax(distance[v], furthest);
        }
    }
    double largest = 0;
    for (int l = 0; l < FG_LANES; l++)
        largest = furthest[l] <= largest ? largest : furthest[l]; /* NaN wins: it must be seen */
    return sqrt(largest);
}

/* What bounds are multiplied with: the features of the largest |z_i| of the block. */
static void reach_features(const fg_job *job, double *reach)
{
    const int D = job->n_features;
    if (job->terms == FG_SPHERICAL) {
        reach[D] = 0;
        for (int i = 0; i < D; i++)
            reach[D] += reach[i] * reach[i];
    } else if (job->terms == FG_DIAGONAL) {
        for (int i = 0; i < D; i++)
            reach[D + i] = reach[i] * reach[i];
    } else if (job->terms == FG_FULL) {
        double *pair = reach + D;
        for (int i = 0; i < D; i++)
            for (int j = i; j < D; j++)
                *pair++ = reach[i] * reach[j];
    }
}

/* The part of the error bound that all components have in common. */
static double common_bound(const fg_job *job, const double *reach, double furthest)
{
    if (!job->common_root)
        return 0;
    const int D = job->n_features;
    double common = 0;
    for (int j = 0; j < D; j++) {
        double y = 0;
        if (job->common_shape == FG_VECTOR)
            y = fabs(job->common_root[j]) * reach[j];
        else
            for (int i = 0; i <= j; i++)
                y += fabs(job->common_root[(ptrdiff_t)j * D + i]) * reach[i];
        common += y * y;
    }
    return furthest * (sqrt(common) + job->common_reach);
}

/* Marks those of n components that the expansion is not good enough for, in this block; returns how many. */
static int choose(const fg_job *job, const scratch *s, double common, const int *components, int n)
{
    const int P = job->n_terms;
    int n_projected = 0;
    for (int j = 0; j < n; j++) {
        const int k = components[j];
        if (job->always_project || job->bound == NULL) {
            s->project[k] = job->always_project != 0;
        } else {
            const double *bound = job->bound + (ptrdiff_t)k * P;
            double sums[8] = {0}; /* independent sums, so that the loop is not one chain of additions */
            int p = 0;
            for (; p + 8 <= P; p += 8)
                for (int l = 0; l < 8; l++)
                    sums[l] += bound[p + l] * s->reach[p + l];
            double a = common + job->bound_offset[k];
            for (; p < P; p++)
                a += bound[p] * s->reach[p];
            for (int l = 0; l < 8; l++)
                a += sums[l];
            s->project[k] = !(a <= FG_OF(job, limit)); /* NaN and infinity are projected */
            if (FG_IS_SINGLE && !s->project[k] && a > *s->largest_bound)
                *s->largest_bound = a;
        }
        n_projected += s->project[k];
    }
    if (n_projected && job->project_whole_block) {
        for (int j = 0; j < n; j++)
            s->project[components[j]] = 1;
        n_projected = n;
    }
    return n_projected;
}

static void build_features(const fg_job *job, real *restrict phi)
{
    const int D = job->n_features;
    real *out = phi + (ptrdiff_t)D * FG_PANEL;
    if (job->terms == FG_SPHERICAL) {
        vec sum[FG_VECTORS];
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            sum[v] = splat(0.0);
        for (int i = 0; i < D; i++) {
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++) {
                const vec z = load(phi + i * FG_PANEL + v * FG_LANES);
                sum[v] += z * z;
            }
        }
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            store(out + v * FG_LANES, sum[v]);
        return;
    }
    if (job->terms != FG_DIAGONAL && job->terms != FG_FULL)
        return;
    for (int i = 0; i < D; i++) {
        vec zi[FG_VECTORS];
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            zi[v] = load(phi + i * FG_PANEL + v * FG_LANES);
        const int last = job->terms == FG_FULL ? D : i + 1;
        for (int j = i; j < last; j++, out += FG_PANEL) {
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++)
                store(out + v * FG_LANES, zi[v] * load(phi + j * FG_PANEL + v * FG_LANES));
        }
    }
}

static void build_block_features(const fg_job *job, const scratch *s, int n_panels)
{
    const int n_rows_phi = job->n_terms > job->n_features ? job->n_terms : job->n_features;
    for (int q = 0; q < n_panels; q++)
        build_features(job, s->phi + (ptrdiff_t)q * n_rows_phi * FG_PANEL);
}

/* d = (x - centre) * scale for one panel; low: what rounding left of the centre */
FG_INLINE void centre_panel(const fg_job *job, const real *centre, const real *low, const real *restrict raw,
                            real *restrict d)
{
    for (int i = 0; i < job->n_features; i++) {
        const point c = point_at(centre, low, i);
        const vec scale = splat(FG_OF(job, scale)[i]);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            store(d + i * FG_PANEL + v * FG_LANES, less(load(raw + i * FG_PANEL + v * FG_LANES), c) * scale);
    }
}

/* Projected scores of one component and panel. A distance beyond the largest double comes out as infinity, or
 * as NaN where an infinite coordinate met a zero of the root (it is stored above the diagonal, too) or where
 * infinities of both signs were added up. There is no other NaN, as rows are finite: both mean an infinite
 * distance, a score of -inf. */
static void project_panel(const fg_job *job, int k, const real *raw, real *d, real *out)
{
    const int D = job->n_features;
    const ptrdiff_t size = job->root_shape == FG_MATRIX ? (ptrdiff_t)D * D : job->root_shape == FG_VECTOR ? D : 1;
    const real *root = FG_OF(job, root) + (job->root_is_shared ? 0 : k * size);
    vec distance[FG_VECTORS];
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        distance[v] = splat(0.0);
    centre_panel(job, FG_OF(job, centre) + (ptrdiff_t)k * D, FG_LOW(job, centre) + (ptrdiff_t)k * D, raw, d);
    if (job->root_shape == FG_MATRIX)
        distance_panel(D, 0, D, root, d, distance);
    else
        for (int i = 0; i < D; i++) {
            const vec u = splat(root[job->root_shape == FG_VECTOR ? i : 0]);
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++) {
                const vec y = u * load(d + i * FG_PANEL + v * FG_LANES);
                distance[v] += y * y;
            }
        }
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        store(out + v * FG_LANES,
              FG_OF(job, constant)[k] - (real)0.5 * where((ivec)(distance[v] >= 0.0), distance[v], splat(INFINITY)));
}

/* Scores of n components for one panel, rows `at` and following of its part of resp. */
static void score_panel(const fg_job *job, const scratch *s, int q, const int *components, int n, int n_projected,
                        int at)
{
    const int D = job->n_features, K = job->n_components, P = job->n_terms;
    const ptrdiff_t phi_stride = (ptrdiff_t)(P > D ? P : D) * FG_PANEL;
    real *out = s->resp + ((ptrdiff_t)q * K + at) * FG_PANEL;
    if (n_projected < n)
        scores_panel(n, components, P, FG_OF(job, coef), FG_OF(job, offset), FG_LOW(job, offset),
                     s->phi + q * phi_stride, out);
    for (int j = 0; n_projected && j < n; j++)
        if (s->project[components[j]])
            project_panel(job, components[j], s->raw + (ptrdiff_t)q * D * FG_PANEL, s->centred,
                          out + (ptrdiff_t)j * FG_PANEL);
}

#include "tiles_normalise.h"
#include "tiles_prune.h"
#include "tiles_single.h"
#include "tiles_accumulate.h"
#ifndef FG_SINGLE
#include "tiles_compensated.h"
#endif

/* One block; whether it was good enough. If not, sums at the head of acc are spoilt. */
static int try_block(const fg_job *job, const scratch *s, int64_t first, int n_rows, double *acc)
{
    const int K = job->n_components, D = job->n_features, P = job->n_terms, n_rows_phi = P > D ? P : D;
    const int n_panels = (n_rows + FG_PANEL - 1) / FG_PANEL;
    const ptrdiff_t phi_stride = (ptrdiff_t)n_rows_phi * FG_PANEL, resp_stride = (ptrdiff_t)K * FG_PANEL;
    real *weight = s->row, *common = s->row + s->block_rows;

    pack(job, s, first, n_rows, n_panels);
    to_frame(job, s, n_panels, n_rows_phi);
    if (!reach_is_good(job, s->reach))
        return 0;
    if (job->source != FG_SCORES) {
        if (job->accumulate_terms)
            build_block_features(job, s, n_panels);
        const int is_labels = job->source == FG_LABELS;
        const int n_given = is_labels ? labels_of_block(job, s, first, n_rows) : K;
        const int *given = is_labels ? s->active : s->identity;
        for (int q = 0; q < n_panels; q++)
            given_panel(job, first, q, n_rows, given, n_given, weight + q * FG_PANEL, s->resp + q * resp_stride);
        accumulate(job, s, given, n_given, n_panels, acc);
        return 1;
    }
    const double furthest = common_term(job, s, n_panels, n_rows_phi, common);
    reach_features(job, s->reach);
    const double bound = common_bound(job, s->reach, furthest);
    const int *active = s->identity, *by_number = s->identity;
    int n_active = K, n_projected;
    if (job->distance) {
        n_active = score_pruned(job, s, first / s->block_rows, n_panels, bound, common, &n_projected);
        active = s->active;
        by_number = s->by_number;
    } else {
        n_projected = choose(job, s, bound, active, K);
        if (n_projected == K) /* projected scores are whole: nothing is common to them */
            memset(common, 0, (size_t)n_panels * FG_PANEL * sizeof(real));
    }
    vec lowest = splat(INFINITY);
    for (int q = 0; q < n_panels; q++) {
        if (!job->distance) {
            if (n_projected < K || job->accumulate_terms)
                build_features(job, s->phi + q * phi_stride);
            score_panel(job, s, q, active, K, n_projected, 0);
#ifndef FG_SINGLE
            if (job->error_share && n_projected)
                compensate_panel(job, s, q, weight + q * FG_PANEL);
#endif
        }
        normalise_panel(job, first, q, n_rows, active, by_number, n_active, weight + q * FG_PANEL,
                        common + q * FG_PANEL, s->resp + q * resp_stride, &lowest, acc);
    }
    if (!scores_are_good(job, s, active, n_active, n_panels, lowest))
        return 0;
    if (job->distance)
        keep_nearest(job, s, first / s->block_rows);
    acc[FG_PAIRS] += n_active;
    acc[FG_PAIRS_CENTRED] += n_projected;
    if (FG_IS_SINGLE)
        acc[FG_PAIRS_SINGLE] += n_active;
    if (job->accumulate)
        accumulate(job, s, active, n_active, n_panels, acc);
    return 1;
}

#ifdef FG_SINGLE
extern const fg_kernels FG_DOUBLE_TABLE;
#endif

/* In single precision a block that was not good enough is done anew in double. */
static void block(const fg_job *job, fg_scratch *memory, int64_t first, int n_rows, double *acc)
{
    double largest_bound = 0;
    const scratch s = scratch_of(memory, &largest_bound);
#ifdef FG_SINGLE
    double head[FG_HEAD];
    memcpy(head, acc, sizeof head);
    if (try_block(job, &s, first, n_rows, acc))
        return;
    memcpy(acc, head, sizeof head);
    FG_DOUBLE_TABLE.block(job, memory, first, n_rows, acc);
#else
    try_block(job, &s, first, n_rows, acc);
#endif
}

FG_INLINE void each(const double *x, double *out, ptrdiff_t n, int is_log)
{
    for (ptrdiff_t i = 0; i < n; i += FG_LANES) {
        const ptrdiff_t m = n - i < FG_LANES ? n - i : FG_LANES;
        vec a = splat(is_log ? 1.0 : 0.0);
        for (int l = 0; l < m; l++)
            a[l] = (real)x[i + l];
        a = is_log ? log_positive(a) : exp_nonpositive(a);
        for (int l = 0; l < m; l++)
            out[i + l] = a[l];
    }
}

static void exp_array(const double *x, double *out, ptrdiff_t n) { each(x, out, n, 0); }
static void log_array(const double *x, double *out, ptrdiff_t n) { each(x, out, n, 1); }

#ifdef FG_SINGLE
#define FG_SINGLE_KERNELS NULL
#define FG_POINT_DISTANCES NULL
#else
extern const fg_kernels FG_SINGLE_TABLE;
#define FG_SINGLE_KERNELS &FG_SINGLE_TABLE
#define FG_POINT_DISTANCES point_distances
#endif

extern const fg_kernels FG_TABLE;
const fg_kernels FG_TABLE = {FG_NAME, block, exp_array, log_array, FG_POINT_DISTANCES, FG_SINGLE_KERNELS};
