/* From weighted responsibilities to the sums of a block: weights, features, moments about centres, total scatter. */
#ifndef FASTGMM_TILES_ACCUMULATE_H
#define FASTGMM_TILES_ACCUMULATE_H

/* Moments of component k, whose responsibilities are row j of resp, about its centre over the block. */
static void accumulate_centred(const fg_job *job, const scratch *s, int k, int j, int n_panels, double *acc)
{
    const int D = job->n_features, K = job->n_components, slot = job->slot[k];
    const ptrdiff_t stride = (ptrdiff_t)D * FG_PANEL;
    const real *about = FG_OF(job, about) + (ptrdiff_t)k * D, *low = FG_LOW(job, about) + (ptrdiff_t)k * D;
    double *first = acc + job->at_first + (ptrdiff_t)slot * D;
    const int place = job->moments_are_pooled ? 0 : slot;
    const real *resp = s->resp + (ptrdiff_t)j * FG_PANEL;
    int n_used = 0; /* panels in which the component has any weight at all; the others add nothing */
    for (int q = 0; q < n_panels; q++) {
        vec largest = splat(0.0);
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            largest = vmax(largest, load(resp + (ptrdiff_t)q * K * FG_PANEL + v * FG_LANES));
        real r = 0;
        for (int l = 0; l < FG_LANES; l++)
            r = r > largest[l] ? r : largest[l];
        if (r == 0)
            continue;
        s->panels[n_used] = q;
        centre_panel(job, about, low, s->raw + q * stride, s->centred + n_used++ * stride);
    }
    vec second_all = splat(0.0);
    for (int i = 0; i < D; i++) {
        vec sum = splat(0.0), second = splat(0.0);
        for (int q = 0; q < n_used; q++) {
            const real *r = resp + (ptrdiff_t)s->panels[q] * K * FG_PANEL;
            const real *d = s->centred + q * stride + i * FG_PANEL;
            real *rd = s->weighted + q * stride + i * FG_PANEL;
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
        dots(D, s->identity, D, 1, n_used, s->weighted, stride, s->centred, stride,
             acc + job->at_second + (ptrdiff_t)place * D * D, D);
}

/* sum_n u_n z z', u_n = w_n sum_k r_nk */
static void accumulate_scatter(const fg_job *job, const scratch *s, int n_active, int n_panels, int n_rows_phi,
                               double *acc)
{
    const int D = job->n_features, K = job->n_components;
    const ptrdiff_t stride = (ptrdiff_t)D * FG_PANEL, phi_stride = (ptrdiff_t)n_rows_phi * FG_PANEL;
    for (int q = 0; q < n_panels; q++) {
        const real *resp = s->resp + (ptrdiff_t)q * K * FG_PANEL;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            vec u = splat(0.0);
            for (int j = 0; j < n_active; j++)
                u += load(resp + (ptrdiff_t)j * FG_PANEL + v * FG_LANES);
            for (int i = 0; i < D; i++)
                store(s->weighted + q * stride + i * FG_PANEL + v * FG_LANES,
                      u * load(s->phi + q * phi_stride + i * FG_PANEL + v * FG_LANES));
        }
    }
    dots(D, s->identity, D, 1, n_panels, s->weighted, stride, s->phi, phi_stride, acc + job->at_scatter, D);
}

/* Weight of each component: its responsibilities summed over the block. */
static void accumulate_weights(const fg_job *job, const scratch *s, const int *active, int n_active, int n_panels,
                               double *weight)
{
    for (int j = 0; j < n_active; j++) {
        vec sum = splat(0.0);
        for (int q = 0; q < n_panels; q++) {
            const real *r = s->resp + ((ptrdiff_t)q * job->n_components + j) * FG_PANEL;
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++)
                sum += load(r + v * FG_LANES);
        }
        weight[active[j]] += sum_lanes(sum);
    }
}

/* Weighted responsibilities into the sums, one row of resp per active component. */
static void accumulate(const fg_job *job, const scratch *s, const int *active, int n_active, int n_panels,
                       double *acc)
{
    const int K = job->n_components, D = job->n_features, P = job->n_terms, n_rows_phi = P > D ? P : D;
    wide total = {0};
    for (int b = 0; b < n_panels * FG_PANEL; b += FG_LANES)
        total += widen(load(s->row + b));
    double weight = 0;
    for (int l = 0; l < FG_WIDE_LANES; l++)
        weight += total[l];
    acc[FG_WEIGHT] += weight;
    if (FG_IS_SINGLE)
        acc[FG_LOG_LIKELIHOOD] += weight * FG_BASE(job);
    accumulate_weights(job, s, active, n_active, n_panels, acc + job->at_weight);
    if (job->accumulate_terms)
        dots(n_active, active, P, 0, n_panels, s->resp, (ptrdiff_t)K * FG_PANEL, s->phi,
             (ptrdiff_t)n_rows_phi * FG_PANEL, acc + job->at_terms, P);
    for (int j = 0; job->n_slots && j < n_active; j++)
        if (job->slot[active[j]] >= 0)
            accumulate_centred(job, s, active[j], j, n_panels, acc);
    if (job->want_scatter)
        accumulate_scatter(job, s, n_active, n_panels, n_rows_phi, acc);
}

#endif
