/* Telling that a component is far from a block by a few coordinates of its whitened rows (full covariances).
 *
 * d^2 = |y|^2, y = root' ((x - centre) * scale), so a few of the squares add up to a lower bound.  The last coordinates
 * are the ones to begin with: y_j is what feature j deviates from its regression on those before, in units of what is
 * left of its standard deviation, and the more it is regressed on the less is left.  So a component that the bounds of
 * the pass before leave in doubt is looked at in stages of twice as many coordinates each, panel by panel, until no row
 * of the panel can matter to it, or until twice as many would hardly show that either.
 */
#ifndef FASTGMM_TILES_PARTIAL_H
#define FASTGMM_TILES_PARTIAL_H

/* Coordinates of the first stage: a tile of the product. */
#define FG_FIRST_COORDINATES 4
/* With fewer features the stages cost about as much as a score. */
#define FG_PARTIAL_FROM 24

/* log(1 + t) <= log(1 + t0) + (t - t0) / (1 + t0), a tangent; t0 = 80 is near where components begin to matter. */
#define FG_TANGENT_SLOPE (1.0 / 81.0)
#define FG_TANGENT_AT_0 (4.394449154672439 - 80.0 / 81.0) /* log 81 rounded up */

/* Distances are rounded inward by far more than their errors, those of scores included (1e-9 at most for the
 * expansion, a few units in the last place of d^2 for projected ones). */
#define FG_INWARD (1.0 - 0x1p-20)

/* No score of the block that counts errs by more in single precision. */
static double slack_of_block(const fg_job *job, const scratch *s)
{
    const double of_features = job->single.feature_share * *s->largest_bound;
    return of_features > job->single.slack ? of_features : job->single.slack;
}

/* Whether stages may pay at all. */
static int may_tell_early(const fg_job *job)
{
    return !job->hard && job->root && job->root_shape == FG_MATRIX && !job->root_is_shared &&
           job->n_features >= FG_PARTIAL_FROM;
}

/* Whether the last coordinates show that no row of a panel matters to component k; distance: their squares summed. */
static int panel_is_far(const fg_job *job, int k, real top, real slope, const real *raw, const real *best, real *d,
                        vec distance[FG_VECTORS])
{
    const int D = job->n_features;
    const real *root = FG_OF(job, root) + (ptrdiff_t)k * D * D;
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        distance[v] = splat(0.0);
    centre_panel(job, FG_OF(job, centre) + (ptrdiff_t)k * D, FG_LOW(job, centre) + (ptrdiff_t)k * D, raw, d);
    for (int from = D, n = FG_FIRST_COORDINATES; 2 * n <= D; n *= 2) {
        distance_panel(D, D - n, from, root, d, distance);
        from = D - n;
        ivec far = ~(ivec){0}, hope = ~(ivec){0};
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec over = top - slope * distance[v] - load(best + v * FG_LANES);
            far &= (ivec)(over <= (real)0) & (ivec)(distance[v] >= (real)1.5); /* NaN is not far; 1.5: surely above 1 */
            hope &= (ivec)(over <= 3 * slope * distance[v]);
        }
        real_bits all_far = -1, all_hope = -1;
        for (int l = 0; l < FG_LANES; l++) {
            all_far &= far[l];
            all_hope &= hope[l];
        }
        if (all_far)
            return 1;
        if (!all_hope)
            return 0;
    }
    return 0;
}

/* A lower bound of the distance between the block and component k that shows that none of the rows matters to it;
 * 0 if stages do not show that.  s->best: the best score of each row so far. */
static double far_from_block(const fg_job *job, const scratch *s, int k, int n_panels)
{
    /* what rounding may have made of a squared distance too much, and of the best scores */
    const double inward = FG_INWARD * (FG_IS_SINGLE ? 1.0 - job->single.share * job->single.roughness[k] : 1.0);
    const double slack = FG_IS_SINGLE ? slack_of_block(job, s) - FG_BASE(job) : 0.0;
    const double exact_top = job->margin[k] + job->constant[k] + FG_TANGENT_AT_0 + slack;
    /* twice its own rounding, and that of subtracting from it what leaves less */
    const real top = (real)(exact_top + (FG_IS_SINGLE ? 4.0 * FLT_EPSILON * fabs(exact_top) : 0.0));
    const real slope = (real)((0.5 - FG_TANGENT_SLOPE) * inward);
    vec nearest = splat(-INFINITY); /* of -d^2 the largest */
    for (int q = 0; q < n_panels; q++) {
        vec distance[FG_VECTORS];
        const real *raw = s->raw + (ptrdiff_t)q * job->n_features * FG_PANEL;
        if (!panel_is_far(job, k, top, slope, raw, s->best + q * FG_PANEL, s->centred, distance))
            return 0;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            nearest = vmax(nearest, -distance[v]);
    }
    double square = -nearest[0];
    for (int l = 1; l < FG_LANES; l++)
        square = square < -nearest[l] ? square : -nearest[l];
    return sqrt(square * inward);
}

#endif
