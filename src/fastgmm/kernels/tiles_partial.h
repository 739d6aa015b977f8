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

/* Whether stages may pay at all. */
static int may_tell_early(const fg_job *job)
{
    return !job->hard && job->root && job->root_shape == FG_MATRIX && !job->root_is_shared &&
           job->n_features >= FG_PARTIAL_FROM;
}

/* Whether the first coordinates show that no row of a panel matters to component k; their squares summed. */
static int panel_is_far(const fg_job *job, int k, double top, const double *raw, const double *best, double *d,
                        vec distance[FG_VECTORS])
{
    const int D = job->n_features;
    const double *root = job->root + (ptrdiff_t)k * D * D, *centre = job->centre + (ptrdiff_t)k * D;
    const double slope = (0.5 - FG_TANGENT_SLOPE) * FG_INWARD;
    FG_UNROLL
    for (int v = 0; v < FG_VECTORS; v++)
        distance[v] = splat(0.0);
    centre_panel(job, centre, raw, d);
    for (int from = D, n = FG_FIRST_COORDINATES; 2 * n <= D; n *= 2) {
        distance_panel(D, D - n, from, root, d, distance);
        from = D - n;
        ivec far = ~(ivec){0}, hope = ~(ivec){0};
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            const vec over = top - slope * distance[v] - load(best + v * FG_LANES);
            far &= (ivec)(over <= 0.0) & (ivec)(distance[v] >= 1.5); /* NaN is not far; 1.5: surely above 1 */
            hope &= (ivec)(over <= 3.0 * slope * distance[v]);
        }
        int64_t all_far = -1, all_hope = -1;
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
static double far_from_block(const fg_job *job, const fg_scratch *s, int k, int n_panels)
{
    const double top = job->margin[k] + job->constant[k] + FG_TANGENT_AT_0;
    vec nearest = splat(-INFINITY); /* of -d^2 the largest */
    for (int q = 0; q < n_panels; q++) {
        vec distance[FG_VECTORS];
        const double *raw = s->raw + (ptrdiff_t)q * job->n_features * FG_PANEL;
        if (!panel_is_far(job, k, top, raw, s->best + q * FG_PANEL, s->centred, distance))
            return 0;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            nearest = vmax(nearest, -distance[v]);
    }
    double square = -nearest[0];
    for (int l = 1; l < FG_LANES; l++)
        square = square < -nearest[l] ? square : -nearest[l];
    return sqrt(square);
}

#endif
