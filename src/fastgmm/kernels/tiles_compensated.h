/* Projected scores once more, in about twice the digits, where plain sums may have lost too many.
 *
 * Where features nearly repeat each other the terms of y = root' ((x - centre) * scale) are large and cancel, and
 * their roundings are left.  A score errs by at most error_share_k (1 + d^2), d the Mahalanobis distance
 * (ScoreMap.compensated derives it).  Where that exceeds job->largest_error, in a row that the component has a part
 * in, the component's scores of the whole panel are made again: what rounding takes from differences, products and
 * sums is known exactly, and is added up beside the sums (Ogita, Rump and Oishi 2005, algorithm Dot2).
 *
 * Scorers ask for this.  Passes of fits do not: rounding costs the moments of such a component more digits than its
 * scores.
 */
#ifndef FASTGMM_TILES_COMPENSATED_H
#define FASTGMM_TILES_COMPENSATED_H

#include "tiles_pack.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__FMA__) || defined(__aarch64__)
#define FG_HAS_FMA 1
#else
#define FG_HAS_FMA 0
#endif

/* A component with a score this far below the best of a row has less than exp(-40) = 4e-18 of its density. */
#define FG_NO_PART 40.0

/* `a`, which the compiler must round: -ffp-contract would fuse a product into the sum that it enters. */
FG_INLINE vec rounded(vec a)
{
#if defined(__x86_64__) || defined(_M_X64)
    __asm__("" : "+x"(a));
#elif defined(__aarch64__)
    __asm__("" : "+w"(a));
#else
    __asm__("" : "+m"(a));
#endif
    return a;
}

/* A factor; without FMA with the halves of its digits, whose products are exact. */
typedef struct {
    vec all;
#if !FG_HAS_FMA
    vec high, low;
#endif
} fg_factor;

#if FG_HAS_FMA
FG_INLINE fg_factor factor_of(vec a) { return (fg_factor){a}; }

/* a b - product, exactly; product is a b, rounded. */
FG_INLINE vec rest_of_product(fg_factor a, fg_factor b, vec product)
{
#if defined(__aarch64__)
    return (vec)vfmaq_f64((float64x2_t)(-product), (float64x2_t)a.all, (float64x2_t)b.all);
#elif FG_LANES == 8
    return (vec)_mm512_fmsub_pd((__m512d)a.all, (__m512d)b.all, (__m512d)product);
#elif FG_LANES == 4
    return (vec)_mm256_fmsub_pd((__m256d)a.all, (__m256d)b.all, (__m256d)product);
#else
    return (vec)_mm_fmsub_pd((__m128d)a.all, (__m128d)b.all, (__m128d)product);
#endif
}
#else
FG_INLINE fg_factor factor_of(vec a)
{
    const vec shifted = rounded(a * splat(134217729.0)); /* 2^27 + 1 (Veltkamp) */
    const vec high = shifted - (shifted - a);
    return (fg_factor){a, high, a - high};
}

/* a b - product, exactly; product is a b, rounded (Dekker). */
FG_INLINE vec rest_of_product(fg_factor a, fg_factor b, vec product)
{
    return ((a.high * b.high - product) + a.high * b.low + a.low * b.high) + a.low * b.low;
}
#endif

/* sum += term; returns what rounding took from it (Knuth).  `term` must be rounded. */
FG_INLINE vec add_exactly(vec *sum, vec term)
{
    const vec before = *sum, after = before + term, added = after - before;
    *sum = after;
    return (before - (after - added)) + (term - added);
}

/* d = (x - centre) * scale for one panel, and what rounding took from it. */
static void centre_panel_exactly(const fg_job *job, const double *centre, const double *restrict raw,
                                 double *restrict d, double *restrict low)
{
    for (int i = 0; i < job->n_features; i++) {
        const vec minus = splat(-centre[i]), scale = splat(job->scale[i]);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            vec difference = load(raw + i * FG_PANEL + v * FG_LANES);
            const vec rest = add_exactly(&difference, minus);
            store(d + i * FG_PANEL + v * FG_LANES, difference * scale);
            store(low + i * FG_PANEL + v * FG_LANES, rest * scale);
        }
    }
}

/* project_panel for a matrix root, in about twice the digits. Where something overflows on the way the score in `out`
 * stays. */
static void project_panel_exactly(const fg_job *job, int k, const double *raw, double *d, double *low, double *out)
{
    const int D = job->n_features;
    const double *root = job->root + (job->root_is_shared ? 0 : (ptrdiff_t)k * D * D);
    centre_panel_exactly(job, job->centre + (ptrdiff_t)k * D, raw, d, low);
    vec distance[FG_VECTORS], distance_rest[FG_VECTORS];
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        distance[v] = distance_rest[v] = splat(0.0);
    for (int j = 0; j < D; j++, root += D) {
        vec y[FG_VECTORS], rest[FG_VECTORS];
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            y[v] = rest[v] = splat(0.0);
        for (int i = 0; i <= j; i++) {
            const fg_factor u = factor_of(splat(root[i]));
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++) {
                const ptrdiff_t at = (ptrdiff_t)i * FG_PANEL + v * FG_LANES;
                const fg_factor dv = factor_of(load(d + at));
                const vec product = rounded(u.all * dv.all);
                const vec lost = rest_of_product(u, dv, product) + u.all * load(low + at);
                rest[v] += add_exactly(&y[v], product) + lost;
            }
        }
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec whole = y[v] + rest[v];
            distance_rest[v] += add_exactly(&distance[v], rounded(whole * whole));
        }
    }
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++) {
        const vec score = job->constant[k] - 0.5 * (distance[v] + distance_rest[v]);
        const vec plain = load(out + v * FG_LANES);
        store(out + v * FG_LANES, where((ivec)(vabs(score) <= FG_REAL_MAX), score, plain));
    }
}

/* What a projected score may err by. */
FG_INLINE vec error_of_score(const fg_job *job, int k, vec score)
{
    return job->error_share[k] * (1.0 + 2.0 * (job->constant[k] - score));
}

/* Makes those projected scores of a panel anew that may err by too much; of all components, as nothing is pruned.
 * Infinite scores stay: their errors are NaN. */
static void compensate_panel(const fg_job *job, const scratch *s, int q, const double *weight)
{
    const int K = job->n_components;
    const ptrdiff_t stride = (ptrdiff_t)job->n_features * FG_PANEL;
    double *scores = s->resp + (ptrdiff_t)q * K * FG_PANEL;
    vec best[FG_VECTORS]; /* the best score of a row is no less */
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        best[v] = splat(-INFINITY);
    for (int k = 0; k < K; k++) {
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec score = load(scores + (ptrdiff_t)k * FG_PANEL + v * FG_LANES);
            const vec error = s->project[k] ? error_of_score(job, k, score) : splat(0.0);
            best[v] = vmax(score - error, best[v]); /* which is never NaN */
        }
    }
    for (int k = 0; k < K; k++) {
        if (!s->project[k])
            continue;
        double *row = scores + (ptrdiff_t)k * FG_PANEL;
        ivec unsure = {0};
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec score = load(row + v * FG_LANES), error = error_of_score(job, k, score);
            const ivec has_part = (ivec)(score + error + FG_NO_PART >= best[v]) | -(int64_t)(job->out_scores != NULL);
            const ivec is_row = (ivec)(load(weight + v * FG_LANES) > 0.0);
            unsure |= (ivec)(error > job->largest_error) & has_part & is_row;
        }
        int64_t any = 0;
        for (int l = 0; l < FG_LANES; l++)
            any |= unsure[l];
        if (any)
            project_panel_exactly(job, k, s->raw + q * stride, s->centred, s->weighted, row);
    }
}

#endif
