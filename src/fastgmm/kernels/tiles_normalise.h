/* From scores to weighted responsibilities, one panel at a time, and the outputs that belong to a row.
 *
 * log p = m + log sum_k exp(s_k - m), m = max_k s_k;  r_k = exp(s_k - m) / sum.  A row whose scores are all -inf
 * (a point that far away that its squared distance overflows) gets log p = -inf and equal responsibilities.
 * Scores are never NaN: project_panel sees to it.
 */
#ifndef FASTGMM_TILES_NORMALISE_H
#define FASTGMM_TILES_NORMALISE_H

#include <float.h>
#include "tiles_products.h"

/* Fills s->active with the components that rows of the block have for labels; returns how many. */
static int labels_of_block(const fg_job *job, const scratch *s, int64_t first, int n_rows)
{
    const int K = job->n_components;
    int n = 0;
    unsigned char *there = s->project;
    memset(there, 0, (size_t)K);
    for (int64_t i = first; i < first + n_rows; i++) {
        const int64_t label = job->labels[job->order ? (int64_t)job->order[i] : i];
        if (label >= 0 && label < K)
            there[label] = 1;
    }
    for (int k = 0; k < K; k++)
        if (there[k])
            s->active[n++] = k;
    return n;
}

/* Responsibilities that the caller gives, for n components: an N x K array, or a label per row (negative: none). */
static void given_panel(const fg_job *job, int64_t first, int q, int n_rows, const int *active, int n_active,
                        const real *weight, real *restrict resp)
{
    for (int b = 0; b < FG_PANEL; b++) {
        const int row = q * FG_PANEL + b;
        const int64_t n = job->order && row < n_rows ? (int64_t)job->order[first + row] : first + row;
        for (int j = 0; j < n_active; j++) {
            real r = 0;
            if (row < n_rows && weight[b] != 0)
                r = job->source == FG_LABELS ? (real)(job->labels[n] == active[j])
                                             : (real)job->given[n * job->n_components + active[j]];
            resp[(ptrdiff_t)j * FG_PANEL + b] = r * weight[b];
        }
    }
}

/* The rows of a (K, panel) matrix as rows of an (N, K) output; scores with what they have in common. */
static void write_rows(int K, int64_t first_row, int n_rows, const real *panel, const real *common, double base,
                       double *out)
{
    for (int b = 0; b < n_rows; b++) {
        double *row = out + (first_row + b) * K;
        for (int k = 0; k < K; k++)
            row[k] = panel[(ptrdiff_t)k * FG_PANEL + b] + (common ? common[b] + base : 0.0);
    }
}

/* best = max_k s_k and the first row of scores, of those in `rows`, that has it */
FG_INLINE void best_component(int K, const int *rows, const real *scores, vec best[FG_VECTORS],
                              vec index[FG_VECTORS])
{
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++) {
        best[v] = load(scores + (ptrdiff_t)rows[0] * FG_PANEL + v * FG_LANES);
        index[v] = splat((real)rows[0]);
    }
    for (int k = 1; k < K; k++) {
        const vec number = splat((real)rows[k]);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec s = load(scores + (ptrdiff_t)rows[k] * FG_PANEL + v * FG_LANES);
            const ivec better = (ivec)(s > best[v]);
            best[v] = where(better, s, best[v]);
            index[v] = where(better, number, index[v]);
        }
    }
}

/* The two best components of each row, as one number to sort by; K of n_components are scored. */
static void write_keys(int n_components, int K, const int *active, const real *scores, int n_real, int32_t *out)
{
    vec best[FG_VECTORS], second[FG_VECTORS], index[FG_VECTORS], second_index[FG_VECTORS];
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++) {
        best[v] = second[v] = splat(-INFINITY);
        index[v] = second_index[v] = splat(0.0);
    }
    for (int k = 0; k < K; k++) {
        const vec number = splat((real)active[k]);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec s = load(scores + (ptrdiff_t)k * FG_PANEL + v * FG_LANES);
            const ivec first = (ivec)(s > best[v]), next = (ivec)(s > second[v]);
            second_index[v] = where(first, index[v], where(next, number, second_index[v]));
            second[v] = vmax(second[v], where(first, best[v], s));
            index[v] = where(first, number, index[v]);
            best[v] = vmax(best[v], s);
        }
    }
    for (int b = 0; b < n_real; b++)
        out[b] = (int32_t)index[b / FG_LANES][b % FG_LANES] * n_components +
                 (int32_t)second_index[b / FG_LANES][b % FG_LANES];
}

/* best = max_k s_k */
FG_INLINE void best_score(int K, const real *scores, vec best[FG_VECTORS])
{
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        best[v] = load(scores + v * FG_LANES);
    for (int k = 1; k < K; k++) {
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            best[v] = vmax(best[v], load(scores + (ptrdiff_t)k * FG_PANEL + v * FG_LANES));
    }
}

/* All of a row's weight to its best component. */
FG_INLINE void assign(int K, const vec index[FG_VECTORS], const real *weight, real *restrict resp)
{
    for (int k = 0; k < K; k++) {
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec w = load(weight + v * FG_LANES);
            store(resp + (ptrdiff_t)k * FG_PANEL + v * FG_LANES,
                  where((ivec)(index[v] == (real)k), w, splat(0.0)));
        }
    }
}

/* Scores become e_k = exp(s_k - origin), origin = max_k s_k or 0 where that is -inf; sum = sum_k e_k. */
FG_INLINE void exponentials(int K, const vec best[FG_VECTORS], real *restrict s, vec sum[FG_VECTORS])
{
    vec origin[FG_VECTORS];
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++) {
        sum[v] = splat(0.0);
        origin[v] = where((ivec)(best[v] >= -FG_REAL_MAX), best[v], splat(0.0));
    }
    for (int k = 0; k < K; k++) {
        real *row = s + (ptrdiff_t)k * FG_PANEL;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec e = exp_nonpositive(load(row + v * FG_LANES) - origin[v]);
            store(row + v * FG_LANES, e);
            sum[v] += e;
        }
    }
}

/* r = e * factor + floor */
FG_INLINE void divide(int K, const vec factor[FG_VECTORS], const vec floor_[FG_VECTORS], real *restrict resp)
{
    for (int k = 0; k < K; k++) {
        real *row = resp + (ptrdiff_t)k * FG_PANEL;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            store(row + v * FG_LANES, load(row + v * FG_LANES) * factor[v] + floor_[v]);
    }
}

/* w r, r = e * factor + floor */
FG_INLINE void divide_and_weigh(int K, const vec factor[FG_VECTORS], const vec floor_[FG_VECTORS],
                                const real *weight, real *restrict resp)
{
    for (int k = 0; k < K; k++) {
        real *row = resp + (ptrdiff_t)k * FG_PANEL;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec r = load(row + v * FG_LANES) * factor[v] + floor_[v];
            store(row + v * FG_LANES, r * load(weight + v * FG_LANES));
        }
    }
}

/* Responsibilities in proportion to exp(score): written out, weighted; log_sum = log sum_k exp(s_k - max_k s_k),
 * minus the log of the largest responsibility, which is log K where all scores are -inf. */
FG_INLINE void share_out(const fg_job *job, int64_t first_row, int n_real, int K, const real *weight,
                         const vec best[FG_VECTORS], real *restrict s, vec log_sum[FG_VECTORS])
{
    vec sum[FG_VECTORS], factor[FG_VECTORS], floor_[FG_VECTORS];
    exponentials(K, best, s, sum);
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++) {
        const ivec possible = (ivec)(sum[v] > 0.0);
        log_sum[v] = log_positive(where(possible, sum[v], splat((real)K)));
        factor[v] = where(possible, (real)1 / sum[v], splat(0.0));
        floor_[v] = where(possible, splat(0.0), splat((real)1 / (real)K));
    }
    if (job->out_responsibilities) {
        divide(K, factor, floor_, s);
        write_rows(K, first_row, n_real, s, NULL, 0.0, job->out_responsibilities);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            factor[v] = splat(1.0);
            floor_[v] = splat(0.0);
        }
    }
    if (job->accumulate)
        divide_and_weigh(K, factor, floor_, weight, s);
}

static float finite_float(double a)
{
    return (float)(a > -FLT_MAX ? (a < FLT_MAX ? a : FLT_MAX) : -FLT_MAX);
}

/* log p = best + log_sum + common + base: written out and summed, without the base, which `accumulate` adds.
 * `lowest`: the least of the rows' best scores, as far as they count; for single precision. */
FG_INLINE void finish_rows(const fg_job *job, int64_t first_row, int n_real, const real *weight,
                           const real *common, const vec best[FG_VECTORS], const vec log_sum[FG_VECTORS],
                           vec *lowest, double *acc)
{
    vec log_likelihood = splat(0.0), log_max = splat(0.0);
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++) {
        const vec w = load(weight + v * FG_LANES);
        const vec log_p = best[v] + log_sum[v] + load(common + v * FG_LANES);
        /* rows of weight 0 may have any log p, also -inf, and do not count */
        log_likelihood += where((ivec)(w > 0.0), w * log_p, splat(0.0));
        log_max -= w * log_sum[v];
        if (FG_IS_SINGLE)
            *lowest = where((ivec)(w > 0.0) & (ivec)(best[v] < *lowest), best[v], *lowest);
        for (int l = 0; job->out_key_density && l < FG_LANES && v * FG_LANES + l < n_real; l++)
            job->out_key_density[first_row + v * FG_LANES + l] = finite_float(log_p[l] + FG_BASE(job));
        if (job->out_log_density) {
            const int n = n_real - v * FG_LANES < FG_LANES ? n_real - v * FG_LANES : FG_LANES;
            double *out = job->out_log_density + first_row + v * FG_LANES;
            if (!FG_IS_SINGLE && n > 0)
                memcpy(out, &log_p, (size_t)n * sizeof(double));
            for (int l = 0; FG_IS_SINGLE && l < n; l++)
                out[l] = log_p[l] + FG_BASE(job);
        }
    }
    acc[FG_LOG_LIKELIHOOD] += sum_lanes(log_likelihood);
    acc[FG_LOG_MAX] += sum_lanes(log_max);
}

/* Scores (K, panel) of K active components without their common term in, weighted responsibilities out.
 * by_number: those rows in the order of their components. */
static void normalise_panel(const fg_job *job, int64_t first, int q, int n_rows, const int *active,
                            const int *by_number, int K, const real *weight, const real *common,
                            real *restrict s, vec *lowest, double *acc)
{
    const int64_t first_row = first + (int64_t)q * FG_PANEL;
    const int n_real = n_rows - q * FG_PANEL < FG_PANEL ? n_rows - q * FG_PANEL : FG_PANEL;
    if (job->out_scores)
        write_rows(K, first_row, n_real, s, common, FG_BASE(job), job->out_scores);

    if (job->out_key)
        write_keys(job->n_components, K, active, s, n_real, job->out_key + first_row);
    vec best[FG_VECTORS], log_sum[FG_VECTORS];
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        log_sum[v] = splat(0.0);
    if (job->hard || job->out_labels) {
        vec index[FG_VECTORS];
        best_component(K, by_number, s, best, index);
        if (job->out_labels)
            for (int b = 0; b < n_real; b++)
                job->out_labels[first_row + b] = active[(int)index[b / FG_LANES][b % FG_LANES]];
        if (job->hard)
            assign(K, index, weight, s);
    } else {
        best_score(K, s, best);
    }
    if (!job->hard)
        share_out(job, first_row, n_real, K, weight, best, s, log_sum);
    finish_rows(job, first_row, n_real, weight, common, best, log_sum, lowest, acc);
}

#endif
