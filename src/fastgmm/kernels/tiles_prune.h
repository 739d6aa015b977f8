/* Which components a block of rows needs (docs/pruning.md has the derivation).
 *
 * A score is s_k(x) = constant_k - d_k(x)^2 / 2, d the Mahalanobis distance.  For each block and component the caller
 * keeps `distance`: no row of the block was nearer under the parameters of the pass before.  What may have changed
 * since is bounded by the drift of the parameters, so now  d >= (distance - shift_k) * factor_k.  The block
 *
 *   1. scores the components that matter if its rows are about as likely as they were,
 *   2. takes each row's best score, which its log density is not below,
 *   3. scores every other component of which neither the bound proves that it is negligible for the least likely
 *      row, nor a look at some coordinates (tiles_partial.h) that it is for each row,
 *   4. keeps the distances it now knows, and the bounds of those it did not compute.
 *
 * Component k is negligible for a row if  margin_k + constant_k - d^2 / 2 + log(1 + d^2) <= best  and d >= 1: then its
 * responsibility together with its first and second moments in units of the component, r (1 + d^2), is below
 * exp(-margin_k).  Nothing here depends on how good the guesses are but the time it takes.
 *
 * Where all of a row goes to its best component (k-means), what is skipped must be nothing at all: component k is
 * skipped if  constant_k - d^2 / 2  is less than `least` by more than scores err.  Then no row would choose it.
 *
 * Where there are many components several blocks share one row of bounds, so that bounds take little memory: each looks
 * at those of the last pass, and the last of them, in the same thread, leaves the nearest that any of them knows.
 *
 * Bounds have a sign: positive where the component was scored, so that its rows are that near; negative where it was
 * found negligible, which it may well be again: what drift leaves in doubt of these is left to step 3.
 */
#ifndef FASTGMM_TILES_PRUNE_H
#define FASTGMM_TILES_PRUNE_H

#include <float.h>

#include "tiles_partial.h"

static float inward(double distance)
{
    const double d = distance * FG_INWARD;
    return d >= FLT_MAX ? FLT_MAX : d > 0 ? (float)d : 0.0f; /* NaN becomes 0: nothing is known */
}

/* Largest value of margin + log(r p(x) (1 + d^2)) where d is at least `distance`; INFINITY where it is below 1.
 * hard: of margin + log p(x); INFINITY where nothing is known, so that a score of that value is not reached. */
static double highest_score(int hard, double constant, double margin, double distance)
{
    const double square = distance * distance, y = 1.0 + square;
    if (hard)
        return distance > 0.0 ? margin + constant - 0.5 * square : INFINITY;
    if (!(distance >= 1.0))
        return INFINITY;
    /* log y < (e + 1) log 2 for y = 2^e m, m < 2; distances are below 2^128 */
    int64_t bits;
    memcpy(&bits, &y, sizeof bits);
    const double log_y = (double)((bits >> 52) - 1022) * 0x1.62e42fefa39f0p-1;
    return margin + constant - 0.5 * square + log_y;
}

/* The largest of a component's scores (row j of resp) over the block. */
static double best_of_block(const fg_job *job, const scratch *s, int j, int n_panels, const real *common)
{
    vec best = splat(-INFINITY);
    for (int q = 0; q < n_panels; q++) {
        const real *row = s->resp + ((ptrdiff_t)q * job->n_components + j) * FG_PANEL;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            best = vmax(best, load(row + v * FG_LANES) + load(common + q * FG_PANEL + v * FG_LANES));
    }
    real b = best[0];
    for (int l = 1; l < FG_LANES; l++)
        b = b > best[l] ? b : best[l];
    return b + FG_BASE(job);
}

/* The best of n scores of each row into s->best; returns the least of them, or less. */
static double best_of_rows(const fg_job *job, const scratch *s, int n, int n_panels, const real *common)
{
    vec least_by_lane = splat(INFINITY);
    for (int q = 0; q < n_panels; q++) {
        const real *resp = s->resp + (ptrdiff_t)q * job->n_components * FG_PANEL;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            vec best = splat(-INFINITY);
            for (int j = 0; j < n; j++)
                best = vmax(best, load(resp + (ptrdiff_t)j * FG_PANEL + v * FG_LANES));
            best += load(common + q * FG_PANEL + v * FG_LANES);
            store(s->best + q * FG_PANEL + v * FG_LANES, best);
            least_by_lane = where((ivec)(best < least_by_lane), best, least_by_lane);
        }
    }
    double least = INFINITY;
    for (int l = 0; l < FG_LANES; l++)
        least = least < least_by_lane[l] ? least : least_by_lane[l];
    return FG_IS_SINGLE ? least + FG_BASE(job) - slack_of_block(job, s) : least;
}

/* A lower bound of the squared distance of which `best` is the score.  The score's error is at most 1e-9, and d^2
 * twice that; in single precision the slack or a share of the squared distance. */
static double least_square(const fg_job *job, const scratch *s, int k, double best, double error)
{
    const double square = 2.0 * (job->constant[k] - best);
    if (!FG_IS_SINGLE)
        return square - (job->hard ? 2.0 * error : 1e-6);
    return square * (1.0 - job->single.share * job->single.roughness[k]) - 2.0 * slack_of_block(job, s);
}

/* Scores of active[from .. to) for the whole block; returns how many were projected. */
static int score_some(const fg_job *job, const scratch *s, int n_panels, double bound, int whole_block,
                      int from, int to, int *have_features)
{
    const int n = to - from;
    const int *components = s->active + from;
    const int n_projected = whole_block ? n : choose(job, s, bound, components, n);
    if (n_projected < n && !*have_features) {
        build_block_features(job, s, n_panels);
        *have_features = 1;
    }
    for (int q = 0; n && q < n_panels; q++)
        score_panel(job, s, q, components, n, n_projected, from);
    return n_projected;
}

/* What a block knows now of its distances goes into the bounds that it shares. */
static void keep_nearest(const fg_job *job, const scratch *s, int64_t number)
{
    const int K = job->n_components, place = (int)(number % job->blocks_per_bound);
    float *distance = job->distance + number / job->blocks_per_bound * K;
    if (place == 0)
        memcpy(s->nearest, s->near, (size_t)K * sizeof(float));
    for (int k = 0; place > 0 && k < K; k++) {
        const float a = s->nearest[k], b = s->near[k], least = fminf(fabsf(a), fabsf(b));
        s->nearest[k] = signbit(a) && signbit(b) ? -least : least;
    }
    if (place == job->blocks_per_bound - 1 || number == job->n_blocks - 1)
        memcpy(distance, s->nearest, (size_t)K * sizeof(float));
}

/* Fills s->active and the rows of resp that belong to it; returns how many components that are. */
static int score_pruned(const fg_job *job, const scratch *s, int64_t number, int n_panels, double bound,
                        real *common, int *n_projected)
{
    const int K = job->n_components;
    const float *distance = job->distance + number / job->blocks_per_bound * K;
    int n = 0, have_features = 0, whole_block = 0;
    /* What scores err by. Those of k-means are expanded wherever the rows are: as many units in the last place of
     * the largest term as there are terms. (That of |centre|^2 is among them, or below what distances are rounded
     * inward by.) Others err by 1e-9 at most, and the margin is wider than that. */
    const double error = job->hard ? (job->n_features + 8) * DBL_EPSILON * bound : 0.0;
    if (job->project_whole_block) {
        whole_block = choose(job, s, bound, s->identity, K) > 0;
        if (whole_block)
            memset(common, 0, (size_t)n_panels * FG_PANEL * sizeof(real));
    }
    if (job->accumulate_terms) {
        build_block_features(job, s, n_panels);
        have_features = 1;
    }
    const int stages = may_tell_early(job);
    for (int k = 0; k < K; k++) {
        const int leave = stages && signbit(distance[k]);
        s->near[k] = -inward((fabsf(distance[k]) - job->drift_shift[k]) * job->drift_factor[k]);
        s->highest[k] = highest_score(job->hard, job->constant[k], job->margin[k] + error, -s->near[k]);
        if (!leave && !(s->highest[k] <= job->least[number]))
            s->active[n++] = k;
    }
    *n_projected = score_some(job, s, n_panels, bound, whole_block, 0, n, &have_features);
    const int n_guessed = n;
    const double least = best_of_rows(job, s, n, n_panels, common);
    const int all = !(least >= -DBL_MAX); /* a row that no component reaches belongs to all of them */
    for (int k = 0, j = 0; k < K; k++) {
        if (j < n_guessed && s->active[j] == k) {
            j++;
            continue;
        }
        if (!all && s->highest[k] <= least)
            continue;
        const double far = !all && stages ? far_from_block(job, s, k, n_panels) : 0.0;
        if (far > 0)
            s->near[k] = -inward(far);
        else
            s->active[n++] = k;
    }
    *n_projected += score_some(job, s, n_panels, bound, whole_block, n_guessed, n, &have_features);
    for (int j = 0, g = 0, a = n_guessed; j < n; j++) /* both parts are in order */
        s->by_number[j] = a == n || (g < n_guessed && s->active[g] < s->active[a]) ? g++ : a++;
    job->least[number] = least;
    for (int j = 0; j < n; j++) {
        const int k = s->active[j];
        const double best = best_of_block(job, s, j, n_panels, common);
        s->near[k] = inward(sqrt(least_square(job, s, k, best, error)));
    }
    return n;
}

#endif
