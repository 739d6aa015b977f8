/* One block of rows through the pass:  pack > score > normalise > accumulate.
 *
 * Compiled once per instruction set (tiles_base.c, tiles_v3.c, tiles_v4.c), which define FG_LANES (doubles in a
 * vector), FG_SCORE_VECTORS, FG_DOT_ROWS, FG_NAME and FG_TABLE.  job.h says what the arguments mean.
 *
 * With N rows, K components and P features the two products cost 2NKP flops each; normalising costs N K
 * exponentials, packing N D, features N P.  A block is small enough for its features to stay in cache between the
 * two products.  Rows beyond the last are padding: they get weight 0 and never reach an output.
 */
#include "tiles_products.h"

_Static_assert(FG_BLOCK_STEP % FG_PANEL == 0, "blocks are made of whole panels");

/* Packed rows, user units, structure of arrays: raw (D, panel) per panel. */
FG_INLINE void pack_as(int D, int is_float32, const char *x, ptrdiff_t row_stride, ptrdiff_t column_stride,
                       int n_panels, double *restrict raw)
{
    for (int q = 0; q < n_panels; q++, x += FG_PANEL * row_stride) {
        for (int v = 0; v < FG_VECTORS; v++) {
            const char *rows = x + v * FG_LANES * row_stride;
            double *to = raw + (ptrdiff_t)q * D * FG_PANEL + v * FG_LANES;
            for (int i = 0; i < D; i++, rows += column_stride, to += FG_PANEL) {
#define FG_AT(l) (is_float32 ? (double)*(const float *)(rows + (l) * row_stride) \
                             : *(const double *)(rows + (l) * row_stride))
                store(to, FG_EACH_LANE(FG_AT));
#undef FG_AT
            }
        }
    }
}

/* One row, or the origin of the frame in its place. */
static void pack_row(const fg_job *job, const char *x, int row, int is_there, double *raw)
{
    const int D = job->n_features;
    double *to = raw + (ptrdiff_t)(row / FG_PANEL) * D * FG_PANEL + row % FG_PANEL;
    for (int i = 0; i < D; i++) {
        const char *from = x + row * job->row_stride + i * job->column_stride;
        to[(ptrdiff_t)i * FG_PANEL] = !is_there           ? job->shift[i]
                                      : job->x_is_float32 ? (double)*(const float *)from
                                                          : *(const double *)from;
    }
}

/* Padding and rows of weight zero are put at the origin of the frame, so that whatever they hold cannot overflow in
 * the sums: 0 * inf is not 0. */
static void pack(const fg_job *job, const fg_scratch *s, int64_t first, int n_rows, int n_panels)
{
    const int D = job->n_features, n_full = n_rows / FG_PANEL;
    const char *x = job->x + first * job->row_stride;
    const int is_float32 = job->x_is_float32;
    const ptrdiff_t item = is_float32 ? sizeof(float) : sizeof(double), column_stride = job->column_stride;
    if (column_stride == item && !is_float32)
        pack_as(D, 0, x, job->row_stride, sizeof(double), n_full, s->raw);
    else if (column_stride == item)
        pack_as(D, 1, x, job->row_stride, sizeof(float), n_full, s->raw);
    else
        pack_as(D, is_float32, x, job->row_stride, column_stride, n_full, s->raw);
    for (int row = n_full * FG_PANEL; row < n_panels * FG_PANEL; row++)
        pack_row(job, x, row, row < n_rows, s->raw);
    double *weight = s->row;
    if (!job->row_weight) {
        for (int b = 0; b < n_panels * FG_PANEL; b++)
            weight[b] = b < n_rows ? 1.0 : 0.0;
        return;
    }
    for (int b = 0; b < n_panels * FG_PANEL; b++) {
        weight[b] = b < n_rows ? job->row_weight[first + b] : 0.0;
        if (weight[b] == 0.0 && b < n_rows)
            pack_row(job, x, b, 0, s->raw);
    }
}

/* z into the first D rows of phi; reach_i = max |z_i|. */
static void to_frame(const fg_job *job, const fg_scratch *s, int n_panels, int n_rows_phi)
{
    const int D = job->n_features;
    for (int i = 0; i < D; i++) {
        const vec shift = splat(job->shift[i]), scale = splat(job->scale[i]);
        vec reach = splat(0.0);
        for (int q = 0; q < n_panels; q++) {
            const double *raw = s->raw + ((ptrdiff_t)q * D + i) * FG_PANEL;
            double *z = s->phi + ((ptrdiff_t)q * n_rows_phi + i) * FG_PANEL;
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++) {
                const vec zv = (load(raw + v * FG_LANES) - shift) * scale;
                store(z + v * FG_LANES, zv);
                reach = vmax(reach, vabs(zv));
            }
        }
        double r = 0;
        for (int l = 0; l < FG_LANES; l++)
            r = r > reach[l] ? r : reach[l];
        s->reach[i] = r;
    }
}

/* The term common to all components, and the largest |y| of the block (0 where there is no such term). */
static double common_term(const fg_job *job, const fg_scratch *s, int n_panels, int n_rows_phi, double *common)
{
    vec furthest = splat(0.0);
    for (int q = 0; q < n_panels; q++) {
        vec distance[FG_VECTORS];
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            distance[v] = splat(0.0);
        if (job->common_root)
            distance_panel(job->n_features, job->common_root, s->phi + (ptrdiff_t)q * n_rows_phi * FG_PANEL, distance);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            store(common + q * FG_PANEL + v * FG_LANES, -0.5 * distance[v]);
            furthest = vmax(distance[v], furthest);
        }
    }
    double largest = 0;
    for (int l = 0; l < FG_LANES; l++)
        largest = furthest[l] <= largest ? largest : furthest[l]; /* NaN wins: it must be seen */
    return sqrt(largest);
}

/* Which components the expansion is not good enough for, in this block; returns how many. */
static int choose(const fg_job *job, const fg_scratch *s, double furthest)
{
    const int D = job->n_features, K = job->n_components, P = job->n_terms;
    if (job->always_project) {
        memset(s->project, 1, (size_t)K);
        return K;
    }
    if (job->bound == NULL) {
        memset(s->project, 0, (size_t)K);
        return 0;
    }
    double *reach = s->reach;
    double common = 0;
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
    } else if (job->common_root) {
        for (int j = 0; j < D; j++) {
            double y = 0;
            for (int i = 0; i <= j; i++)
                y += fabs(job->common_root[(ptrdiff_t)j * D + i]) * reach[i];
            common += y * y;
        }
        common = furthest * (sqrt(common) + job->common_reach);
    }
    int n = 0;
    for (int k = 0; k < K; k++) {
        const double *bound = job->bound + (ptrdiff_t)k * P;
        double sums[8] = {0}; /* independent sums, so that the loop is not one chain of additions */
        int p = 0;
        for (; p + 8 <= P; p += 8)
            for (int l = 0; l < 8; l++)
                sums[l] += bound[p + l] * reach[p + l];
        double a = common + job->bound_offset[k];
        for (; p < P; p++)
            a += bound[p] * reach[p];
        for (int l = 0; l < 8; l++)
            a += sums[l];
        s->project[k] = !(a <= job->limit); /* NaN and infinity are projected */
        n += s->project[k];
    }
    if (n && job->project_whole_block) {
        memset(s->project, 1, (size_t)K);
        n = K;
    }
    return n;
}

static void build_features(const fg_job *job, double *restrict phi)
{
    const int D = job->n_features;
    double *out = phi + (ptrdiff_t)D * FG_PANEL;
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

/* d = (x - centre) * scale for one panel */
FG_INLINE void centre_panel(const fg_job *job, const double *centre, const double *restrict raw, double *restrict d)
{
    for (int i = 0; i < job->n_features; i++) {
        const vec c = splat(centre[i]), scale = splat(job->scale[i]);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            store(d + i * FG_PANEL + v * FG_LANES, (load(raw + i * FG_PANEL + v * FG_LANES) - c) * scale);
    }
}

/* Projected scores of one component and panel. A distance beyond the largest double comes out as infinity, or
 * as NaN where an infinite coordinate met a zero of the root (it is stored above the diagonal, too) or where
 * infinities of both signs were added up. There is no other NaN, as rows are finite: both mean an infinite
 * distance, a score of -inf. */
static void project_panel(const fg_job *job, int k, const double *raw, double *d, double *out)
{
    const int D = job->n_features;
    const ptrdiff_t size = job->root_shape == FG_MATRIX ? (ptrdiff_t)D * D : job->root_shape == FG_VECTOR ? D : 1;
    const double *root = job->root + (job->root_is_shared ? 0 : k * size);
    vec distance[FG_VECTORS];
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        distance[v] = splat(0.0);
    centre_panel(job, job->centre + (ptrdiff_t)k * D, raw, d);
    if (job->root_shape == FG_MATRIX)
        distance_panel(D, root, d, distance);
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
              job->constant[k] - 0.5 * where((ivec)(distance[v] >= 0.0), distance[v], splat(INFINITY)));
}

#include "tiles_normalise.h"

/* Moments of one component about its centre over the block. */
static void accumulate_centred(const fg_job *job, const fg_scratch *s, int k, int n_panels, double *acc)
{
    const int D = job->n_features, K = job->n_components, slot = job->slot[k];
    const ptrdiff_t stride = (ptrdiff_t)D * FG_PANEL;
    const double *about = job->about + (ptrdiff_t)k * D;
    double *first = acc + job->at_first + (ptrdiff_t)slot * D;
    const int place = job->moments_are_pooled ? 0 : slot;
    for (int q = 0; q < n_panels; q++)
        centre_panel(job, about, s->raw + q * stride, s->centred + q * stride);
    vec second_all = splat(0.0);
    for (int i = 0; i < D; i++) {
        vec sum = splat(0.0), second = splat(0.0);
        for (int q = 0; q < n_panels; q++) {
            const double *r = s->resp + ((ptrdiff_t)q * K + k) * FG_PANEL;
            const double *d = s->centred + q * stride + i * FG_PANEL;
            double *rd = s->weighted + q * stride + i * FG_PANEL;
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++) {
                const vec dv = load(d + v * FG_LANES), weighted = load(r + v * FG_LANES) * dv;
                store(rd + v * FG_LANES, weighted);
                sum += weighted;
                second += weighted * dv;
            }
        }
        first[i] += sum_lanes(sum);
        if (job->moment_shape == FG_VECTOR)
            acc[job->at_second + (ptrdiff_t)place * D + i] += sum_lanes(second);
        second_all += second;
    }
    if (job->moment_shape == FG_SCALAR)
        acc[job->at_second + place] += sum_lanes(second_all);
    else if (job->moment_shape == FG_MATRIX)
        dots(D, D, 1, n_panels, s->weighted, stride, s->centred, stride,
             acc + job->at_second + (ptrdiff_t)place * D * D, D);
}

/* sum_n u_n z z', u_n = w_n sum_k r_nk */
static void accumulate_scatter(const fg_job *job, const fg_scratch *s, int n_panels, int n_rows_phi, double *acc)
{
    const int D = job->n_features, K = job->n_components;
    const ptrdiff_t stride = (ptrdiff_t)D * FG_PANEL, phi_stride = (ptrdiff_t)n_rows_phi * FG_PANEL;
    for (int q = 0; q < n_panels; q++) {
        const double *resp = s->resp + (ptrdiff_t)q * K * FG_PANEL;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            vec u = splat(0.0);
            for (int k = 0; k < K; k++)
                u += load(resp + (ptrdiff_t)k * FG_PANEL + v * FG_LANES);
            for (int i = 0; i < D; i++)
                store(s->weighted + q * stride + i * FG_PANEL + v * FG_LANES,
                      u * load(s->phi + q * phi_stride + i * FG_PANEL + v * FG_LANES));
        }
    }
    dots(D, D, 1, n_panels, s->weighted, stride, s->phi, phi_stride, acc + job->at_scatter, D);
}

/* Weight of each component: its responsibilities summed over the block. */
static void accumulate_weights(const fg_job *job, const fg_scratch *s, int n_panels, double *weight)
{
    const int K = job->n_components;
    for (int k = 0; k < K; k++) {
        vec sum = splat(0.0);
        for (int q = 0; q < n_panels; q++) {
            const double *r = s->resp + ((ptrdiff_t)q * K + k) * FG_PANEL;
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++)
                sum += load(r + v * FG_LANES);
        }
        weight[k] += sum_lanes(sum);
    }
}

static void block(const fg_job *job, fg_scratch *s, int64_t first, int n_rows, double *acc)
{
    const int K = job->n_components, D = job->n_features, P = job->n_terms;
    const int n_rows_phi = P > D ? P : D;
    const int n_panels = (n_rows + FG_PANEL - 1) / FG_PANEL;
    const ptrdiff_t raw_stride = (ptrdiff_t)D * FG_PANEL, phi_stride = (ptrdiff_t)n_rows_phi * FG_PANEL,
                    resp_stride = (ptrdiff_t)K * FG_PANEL;
    double *weight = s->row, *common = s->row + s->block_rows;

    pack(job, s, first, n_rows, n_panels);
    to_frame(job, s, n_panels, n_rows_phi);
    const int scored = job->source == FG_SCORES;
    const double furthest = common_term(job, s, n_panels, n_rows_phi, common);
    const int n_projected = scored ? choose(job, s, furthest) : 0;
    const int use_features = scored && n_projected < K;
    if (!use_features) /* projected scores are whole: nothing is common to them */
        memset(common, 0, (size_t)n_panels * FG_PANEL * sizeof(double));
    if (use_features || job->accumulate_terms)
        for (int q = 0; q < n_panels; q++)
            build_features(job, s->phi + q * phi_stride);

    for (int q = 0; q < n_panels; q++) {
        const double *raw = s->raw + q * raw_stride, *phi = s->phi + q * phi_stride;
        double *resp = s->resp + q * resp_stride;
        if (!scored) {
            given_panel(job, first, q, n_rows, weight + q * FG_PANEL, resp);
            continue;
        }
        if (use_features)
            scores_panel(K, P, job->coef, job->offset, phi, resp);
        if (n_projected)
            for (int k = 0; k < K; k++)
                if (s->project[k])
                    project_panel(job, k, raw, s->centred, resp + (ptrdiff_t)k * FG_PANEL);
        normalise_panel(job, first, q, n_rows, weight + q * FG_PANEL, common + q * FG_PANEL, resp, acc);
    }
    acc[FG_PAIRS] += scored ? K : 0;
    acc[FG_PAIRS_CENTRED] += n_projected;
    if (!job->accumulate)
        return;

    vec total = splat(0.0);
    for (int b = 0; b < n_panels * FG_PANEL; b += FG_LANES)
        total += load(weight + b);
    acc[FG_WEIGHT] += sum_lanes(total);
    accumulate_weights(job, s, n_panels, acc + job->at_weight);
    if (job->accumulate_terms)
        dots(K, P, 0, n_panels, s->resp, resp_stride, s->phi, phi_stride, acc + job->at_terms, P);
    for (int k = 0; k < K && job->n_slots; k++)
        if (job->slot[k] >= 0)
            accumulate_centred(job, s, k, n_panels, acc);
    if (job->want_scatter)
        accumulate_scatter(job, s, n_panels, n_rows_phi, acc);
}

FG_INLINE void each(const double *x, double *out, ptrdiff_t n, int is_log)
{
    for (ptrdiff_t i = 0; i < n; i += FG_LANES) {
        const ptrdiff_t m = n - i < FG_LANES ? n - i : FG_LANES;
        vec a = splat(is_log ? 1.0 : 0.0);
        memcpy(&a, x + i, (size_t)m * sizeof(double));
        a = is_log ? log_positive(a) : exp_nonpositive(a);
        memcpy(out + i, &a, (size_t)m * sizeof(double));
    }
}

static void exp_array(const double *x, double *out, ptrdiff_t n) { each(x, out, n, 0); }
static void log_array(const double *x, double *out, ptrdiff_t n) { each(x, out, n, 1); }

extern const fg_kernels FG_TABLE;
const fg_kernels FG_TABLE = {FG_NAME, block, exp_array, log_array};
