/* Whether single precision is good enough for a block (docs/numerical_contract.md); double always is. */
#ifndef FASTGMM_TILES_SINGLE_H
#define FASTGMM_TILES_SINGLE_H

#include "tiles_products.h"

/* Squares and sums of squares far out would overflow. */
static int reach_is_good(const fg_job *job, const double *reach)
{
    int is_good = 1;
    for (int i = 0; FG_IS_SINGLE && i < job->n_features; i++)
        is_good &= reach[i] <= job->single.largest_reach;
    return is_good;
}

/* Whether row j of resp, a component's responsibilities, is all zero. */
static int has_no_part(const fg_job *job, const scratch *s, int j, int n_panels)
{
    vec any = splat(0.0);
    for (int q = 0; q < n_panels; q++)
        for (int v = 0; v < FG_VECTORS; v++)
            any = vmax(any, load(s->resp + ((ptrdiff_t)q * job->n_components + j) * FG_PANEL + v * FG_LANES));
    real largest = 0;
    for (int l = 0; l < FG_LANES; l++)
        largest = any[l] > largest ? any[l] : largest;
    return largest == 0;
}

/* A projected score errs by roughness times the squared distance of the row. The scores that count are those of
 * components with a part in the row, at most 64 below its best score (exp_nonpositive): `lowest` has the least of
 * these over the rows. A component that is too rough is too much for single precision however near and whatever
 * way it is scored, if it has a part in any row: its moments would lose too many digits. */
static int scores_are_good(const fg_job *job, const scratch *s, const int *active, int n_active, int n_panels,
                           vec lowest)
{
    double least = INFINITY;
    for (int l = 0; l < FG_LANES; l++)
        least = lowest[l] < least ? lowest[l] : least;
    const double furthest = 2.0 * (64.0 - least);
    for (int j = 0; FG_IS_SINGLE && j < n_active; j++) {
        const int k = active[j];
        const double roughness = job->single.roughness[k];
        const int is_good = roughness <= job->single.largest_roughness &&
                            (!s->project[k] || roughness * furthest <= job->single.largest_error);
        if (!is_good && !has_no_part(job, s, j, n_panels))
            return 0;
    }
    return 1;
}

#endif
