/* Squared distances of some rows to a few points, for k-means++ (_kmeans.pyx). */
#ifndef FASTGMM_TILES_POINTS_H
#define FASTGMM_TILES_POINTS_H

#include "tiles_vector.h"

#define FG_POINT_VECTORS (FG_POINTS / FG_LANES)
/* Rows at a time: 8 independent sums hide the time of a multiply-add, and fit the registers. */
#define FG_POINT_ROWS (FG_POINT_VECTORS >= 8 ? 1 : 8 / FG_POINT_VECTORS)

_Static_assert(FG_POINTS % FG_LANES == 0, "points are whole vectors");

FG_INLINE void points_as(const char *x, ptrdiff_t row_stride, ptrdiff_t column_stride, int is_float32, int D,
                         const int64_t *rows, int n, const double *points, double *out)
{
    for (int b = 0; b < n; b += FG_POINT_ROWS) {
        const char *row[FG_POINT_ROWS];
        vec sum[FG_POINT_ROWS][FG_POINT_VECTORS];
        FG_UNROLL
        for (int r = 0; r < FG_POINT_ROWS; r++) {
            row[r] = x + rows[b + r < n ? b + r : n - 1] * row_stride;
            FG_UNROLL
            for (int v = 0; v < FG_POINT_VECTORS; v++)
                sum[r][v] = splat(0.0);
        }
        for (ptrdiff_t i = 0; i < D; i++) {
            FG_UNROLL
            for (int r = 0; r < FG_POINT_ROWS; r++) {
                const char *at = row[r] + i * column_stride;
                const vec z = splat(is_float32 ? (double)*(const float *)at : *(const double *)at);
                FG_UNROLL
                for (int v = 0; v < FG_POINT_VECTORS; v++) {
                    vec d;
                    memcpy(&d, points + i * FG_POINTS + v * FG_LANES, sizeof d);
                    d = z - d;
                    sum[r][v] += d * d;
                }
            }
        }
        for (int r = 0; r < FG_POINT_ROWS && b + r < n; r++)
            memcpy(out + (ptrdiff_t)(b + r) * FG_POINTS, sum[r], sizeof sum[r]);
    }
}

static void point_distances(const char *x, ptrdiff_t row_stride, ptrdiff_t column_stride, int is_float32, int D,
                            const int64_t *rows, int n, const double *points, double *out)
{
    if (is_float32)
        points_as(x, row_stride, column_stride, 1, D, rows, n, points, out);
    else
        points_as(x, row_stride, column_stride, 0, D, rows, n, points, out);
}

#endif
