/* Rows of a block, wherever and however they lie, as panels of reals in user units; and their weights. */
#ifndef FASTGMM_TILES_PACK_H
#define FASTGMM_TILES_PACK_H

#include "tiles_products.h"

/* Packed rows, user units, structure of arrays: raw (D, panel) per panel. */
FG_INLINE void pack_as(const fg_job *job, int is_float32, int is_ordered, ptrdiff_t column_stride, int64_t first,
                       int n_panels, real *restrict raw)
{
    const int D = job->n_features;
    for (int q = 0; q < n_panels; q++) {
        for (int v = 0; v < FG_VECTORS; v++, first += FG_LANES) {
            const char *rows[FG_LANES];
            FG_UNROLL
            for (int l = 0; l < FG_LANES; l++)
                rows[l] = job->x + (is_ordered ? (int64_t)job->order[first + l] : first + l) * job->row_stride;
            real *to = raw + (ptrdiff_t)q * D * FG_PANEL + v * FG_LANES;
            for (ptrdiff_t i = 0; i < D; i++, to += FG_PANEL) {
#define FG_AT(l) (is_float32 ? (real)*(const float *)(rows[l] + i * column_stride) \
                             : (real)*(const double *)(rows[l] + i * column_stride))
                store(to, FG_EACH_LANE(FG_AT));
#undef FG_AT
            }
        }
    }
}

#if FG_IS_SINGLE
FG_INLINE const char *row_at(const fg_job *job, int64_t position)
{
    return job->x + (job->order ? (int64_t)job->order[position] : position) * job->row_stride;
}

/* pack_as for float32 rows whose features lie side by side: four rows by four features at a time, transposed.  One
 * number at a time takes as long as the products of few features. */
static void pack_floats(const fg_job *job, int64_t first, int n_panels, real *restrict raw)
{
    typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
    enum { AHEAD = 64 }; /* rows to ask for in advance: packing so many takes longer than a read from memory */
    const int D = job->n_features;
    const int64_t n_rows = (int64_t)n_panels * FG_PANEL;
    for (int64_t n = job->order ? -AHEAD : 0; n < n_rows; n += 4) {
        for (int64_t l = n + AHEAD; job->order && l < n + AHEAD + 4 && l < n_rows; l++)
            for (ptrdiff_t at = 0; at < D * (ptrdiff_t)sizeof(float); at += 64)
                __builtin_prefetch(row_at(job, first + l) + at);
        if (n < 0)
            continue;
        const float *rows[4];
        FG_UNROLL
        for (int l = 0; l < 4; l++)
            rows[l] = (const float *)row_at(job, first + n + l);
        real *to = raw + n / FG_PANEL * D * FG_PANEL + n % FG_PANEL;
        int i = 0;
        for (; i + 4 <= D; i += 4, to += 4 * FG_PANEL) {
            const four a = *(const four *)(rows[0] + i), b = *(const four *)(rows[1] + i);
            const four c = *(const four *)(rows[2] + i), d = *(const four *)(rows[3] + i);
            const four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const four ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            *(four *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(four *)(to + FG_PANEL) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(four *)(to + 2 * FG_PANEL) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
            *(four *)(to + 3 * FG_PANEL) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
        }
        for (; i < D; i++, to += FG_PANEL)
            *(four *)to = (four){rows[0][i], rows[1][i], rows[2][i], rows[3][i]};
    }
}
#endif

/* One row, or the origin of the frame in its place. */
static void pack_row(const fg_job *job, int64_t row, int is_there, real *to)
{
    for (int i = 0; i < job->n_features; i++) {
        const char *from = job->x + row * job->row_stride + i * job->column_stride;
        to[(ptrdiff_t)i * FG_PANEL] = !is_there           ? FG_OF(job, shift)[i]
                                      : job->x_is_float32 ? (real)*(const float *)from
                                                          : (real)*(const double *)from;
    }
}

/* Padding and rows of weight zero are put at the origin of the frame, so that whatever they hold cannot overflow in
 * the sums: 0 * inf is not 0.  Where rows are ordered there are none of weight zero, and padding repeats the last
 * row: it must not come nearer to a component than a row. */
static void pack(const fg_job *job, const scratch *s, int64_t first, int n_rows, int n_panels)
{
    const int D = job->n_features, n_full = n_rows / FG_PANEL;
    const ptrdiff_t item = job->x_is_float32 ? sizeof(float) : sizeof(double);
    const uint32_t *order = job->order ? job->order + first : NULL;
#if FG_IS_SINGLE
    if (job->column_stride == item)
        pack_floats(job, first, n_full, s->raw);
    else
#endif
    if (order)
        pack_as(job, job->x_is_float32, 1, job->column_stride, first, n_full, s->raw);
    else if (job->column_stride != item)
        pack_as(job, job->x_is_float32, 0, job->column_stride, first, n_full, s->raw);
    else if (job->x_is_float32)
        pack_as(job, 1, 0, sizeof(float), first, n_full, s->raw);
    else
        pack_as(job, 0, 0, sizeof(double), first, n_full, s->raw);
    real *weight = s->row;
    const int n_plain = job->row_weight ? 0 : n_full * FG_PANEL;
    for (int b = 0; b < n_plain; b++)
        weight[b] = 1;
    for (int b = n_plain; b < n_panels * FG_PANEL; b++) {
        const int is_there = b < n_rows;
        const int64_t row = order ? order[is_there ? b : n_rows - 1] : first + b;
        weight[b] = !is_there ? 0 : job->row_weight ? (real)job->row_weight[row] : 1;
        if (b >= n_full * FG_PANEL || weight[b] == 0)
            pack_row(job, row, order || weight[b] != 0,
                     s->raw + (ptrdiff_t)(b / FG_PANEL) * D * FG_PANEL + b % FG_PANEL);
    }
}

#endif
