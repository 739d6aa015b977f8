/* The two register-tiled products that all the time goes into.
 *
 * Rows of data are kept panel by panel: a panel holds FG_PANEL rows as FG_VECTORS vectors, and a matrix "over rows"
 * is [panel][matrix row][FG_PANEL].  Both products then read contiguous memory:
 *
 *   scores     out[k][n] = offset[k] + sum_p coef[k][p] phi[p][n]      4 components x FG_VECTORS vectors in registers,
 *                                                                      one broadcast feeds FG_VECTORS FMAs
 *   dots       out[k][p] += sum_n left[k][n] right[p][n]               FG_DOT_ROWS x 4 accumulators over the rows of a
 *                                                                      block, their lanes added once at the end
 *
 * The loop counts are compile-time constants in every instance, so the accumulators live in registers.
 */
#ifndef FASTGMM_TILES_PRODUCTS_H
#define FASTGMM_TILES_PRODUCTS_H

#include "tiles_vector.h"

#define FG_VECTORS FG_SCORE_VECTORS
#define FG_PANEL (FG_VECTORS * FG_LANES)

/* acc[k][v] += sum_p coef[k][p] * phi[p][v] */
FG_INLINE void multiply(int nk, vec acc[4][FG_VECTORS], const real *const coef[4], int n_terms,
                        const real *restrict phi)
{
    for (int p = 0; p < n_terms; p++) {
        vec f[FG_VECTORS];
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            f[v] = load(phi + (ptrdiff_t)p * FG_PANEL + v * FG_LANES);
        FG_UNROLL
        for (int k = 0; k < nk; k++) {
            const vec c = splat(coef[k][p]);
            FG_UNROLL
            for (int v = 0; v < FG_VECTORS; v++)
                acc[k][v] += c * f[v];
        }
    }
}

FG_INLINE void scores_tile(int nk, const int *components, int n_terms, const real *restrict coef,
                           const real *restrict offset, const real *restrict low,
                           const real *restrict phi, real *restrict out)
{
    vec acc[4][FG_VECTORS];
    const real *row[4];
    FG_UNROLL
    for (int k = 0; k < nk; k++) {
        row[k] = coef + (ptrdiff_t)components[k] * n_terms;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            acc[k][v] = splat(offset[components[k]]);
    }
    multiply(nk, acc, row, n_terms, phi);
    FG_UNROLL
    for (int k = 0; k < nk; k++) {
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            if (FG_IS_SINGLE)
                acc[k][v] += splat(low[components[k]]);
            store(out + k * FG_PANEL + v * FG_LANES, acc[k][v]);
        }
    }
}

/* One panel: out (n, panel) = offset + coef (n, P) phi (P, panel) for n components.  In single precision with what
 * rounding left of the offset: most of what the two add up to cancels. */
static void scores_panel(int n, const int *components, int n_terms, const real *coef, const real *offset,
                         const real *low, const real *phi, real *out)
{
    int k = 0;
    for (; k + 4 <= n; k += 4)
        scores_tile(4, components + k, n_terms, coef, offset, low, phi, out + (ptrdiff_t)k * FG_PANEL);
    components += k;
    out += (ptrdiff_t)k * FG_PANEL;
    switch (n - k) {
    case 3: scores_tile(3, components, n_terms, coef, offset, low, phi, out); break;
    case 2: scores_tile(2, components, n_terms, coef, offset, low, phi, out); break;
    case 1: scores_tile(1, components, n_terms, coef, offset, low, phi, out); break;
    default: break;
    }
}

/* distance[v] += sum_j (sum_i root[j][i] d[i][v])^2 for nj columns of the factor, of which `length` entries count */
FG_INLINE void distance_tile(int nj, vec distance[FG_VECTORS], const real *restrict root, ptrdiff_t stride,
                             int length, const real *restrict d)
{
    vec y[4][FG_VECTORS];
    const real *column[4];
    FG_UNROLL
    for (int j = 0; j < nj; j++) {
        column[j] = root + j * stride;
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            y[j][v] = splat(0.0);
    }
    multiply(nj, y, column, length, d);
    FG_UNROLL
    for (int j = 0; j < nj; j++) {
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++)
            distance[v] += y[j][v] * y[j][v];
    }
}

/* distance += y_j^2 for rows `from` to `to` of y = root d, over one panel; root (D, D) lower triangular, zero above
 * the diagonal. */
static void distance_panel(int n_features, int from, int to, const real *root, const real *d,
                           vec distance[FG_VECTORS])
{
    int j = from;
    for (; j + 4 <= to; j += 4)
        distance_tile(4, distance, root + (ptrdiff_t)j * n_features, n_features, j + 4, d);
    root += (ptrdiff_t)j * n_features;
    switch (to - j) {
    case 3: distance_tile(3, distance, root, n_features, to, d); break;
    case 2: distance_tile(2, distance, root, n_features, to, d); break;
    case 1: distance_tile(1, distance, root, n_features, to, d); break;
    default: break;
    }
}

/* out[rows[k]][p] += sum over panels and rows of left[k] right[p]; strides are from panel to panel. */
FG_INLINE void dots_tile(int nk, int np, const int *rows, int n_panels, const real *restrict left,
                         ptrdiff_t left_stride, const real *restrict right, ptrdiff_t right_stride,
                         double *restrict out, ptrdiff_t out_stride)
{
    vec acc[FG_DOT_ROWS][4];
    FG_UNROLL
    for (int k = 0; k < nk; k++) {
        FG_UNROLL
        for (int p = 0; p < 4; p++)
            acc[k][p] = splat(0.0);
    }
    for (int q = 0; q < n_panels; q++) {
        FG_UNROLL
        for (int v = 0; v < FG_VECTORS; v++) {
            vec r[4];
            FG_UNROLL
            for (int p = 0; p < np; p++)
                r[p] = load(right + p * FG_PANEL + v * FG_LANES);
            FG_UNROLL
            for (int k = 0; k < nk; k++) {
                const vec l = load(left + k * FG_PANEL + v * FG_LANES);
                FG_UNROLL
                for (int p = 0; p < np; p++)
                    acc[k][p] += l * r[p];
            }
        }
        left += left_stride;
        right += right_stride;
    }
    FG_UNROLL
    for (int k = 0; k < nk; k++) {
        double *sums = out + rows[k] * out_stride;
        if (np == 4)
            add_sums4(sums, acc[k][0], acc[k][1], acc[k][2], acc[k][3]);
        else {
            FG_UNROLL
            for (int p = 0; p < np; p++)
                sums[p] += sum_lanes(acc[k][p]);
        }
    }
}

/* All of out for one strip of np <= 4 right rows and every left row. */
FG_INLINE void dots_strip(int np, int n_left, const int *rows, int n_panels, const real *left,
                          ptrdiff_t left_stride, const real *right, ptrdiff_t right_stride, double *out,
                          ptrdiff_t out_stride)
{
    int k = 0;
    for (; k + FG_DOT_ROWS <= n_left; k += FG_DOT_ROWS)
        dots_tile(FG_DOT_ROWS, np, rows + k, n_panels, left + (ptrdiff_t)k * FG_PANEL, left_stride, right,
                  right_stride, out, out_stride);
    left += (ptrdiff_t)k * FG_PANEL;
    rows += k;
    switch (n_left - k) {
#if FG_DOT_ROWS > 2
    case 3: dots_tile(3, np, rows, n_panels, left, left_stride, right, right_stride, out, out_stride); break;
    case 2: dots_tile(2, np, rows, n_panels, left, left_stride, right, right_stride, out, out_stride); break;
#endif
    case 1: dots_tile(1, np, rows, n_panels, left, left_stride, right, right_stride, out, out_stride); break;
    default: break;
    }
}

/* Many left rows are taken FG_LEFT_ROWS at a time, 24 KB with the fewest rows a block has: these and a strip of their
 * sums stay in the first-level cache while the right rows stream by from the second, if they have room there.  Up to
 * FG_FEW_LEFT_ROWS and their sums are near enough as it is. */
#define FG_LEFT_ROWS 32
#define FG_FEW_LEFT_ROWS 256
#define FG_RIGHT_BYTES (512 * 1024)

/* out (., n_right) += left right' over all panels; left row k is added to row rows[k] of out.  With `triangular`,
 * where rows is 0, 1, 2, ..., only what lies on and right of the diagonal is sure to be computed. */
static void dots(int n_left, const int *rows, int n_right, int triangular, int n_panels, const real *left,
                 ptrdiff_t left_stride, const real *right, ptrdiff_t right_stride, double *out, ptrdiff_t out_stride)
{
    const size_t right_bytes = (size_t)n_right * (size_t)(n_panels * FG_PANEL) * sizeof(real);
    const int step = n_left > FG_FEW_LEFT_ROWS && right_bytes <= FG_RIGHT_BYTES ? FG_LEFT_ROWS : n_left;
    for (int k = 0; k < n_left; k += step) {
        const int most = n_left - k < step ? n_left - k : step;
        const real *some = left + (ptrdiff_t)k * FG_PANEL;
        const int *to = rows + k;
        for (int p = triangular ? k : 0; p < n_right; p += 4) {
            const int np = n_right - p < 4 ? n_right - p : 4;
            const int nk = triangular && p + np < k + most ? p + np - k : most;
            const real *strip = right + (ptrdiff_t)p * FG_PANEL;
            double *sums = out + p;
            switch (np) {
            case 4: dots_strip(4, nk, to, n_panels, some, left_stride, strip, right_stride, sums, out_stride); break;
            case 3: dots_strip(3, nk, to, n_panels, some, left_stride, strip, right_stride, sums, out_stride); break;
            case 2: dots_strip(2, nk, to, n_panels, some, left_stride, strip, right_stride, sums, out_stride); break;
            default: dots_strip(1, nk, to, n_panels, some, left_stride, strip, right_stride, sums, out_stride); break;
            }
        }
    }
}

#endif
