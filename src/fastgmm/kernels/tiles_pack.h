/* Rows of a block, wherever and however they lie, as panels of doubles in user units; and their weights. */
#ifndef FASTGMM_TILES_PACK_H
#define FASTGMM_TILES_PACK_H

#include "tiles_products.h"

/* Packed rows, user units, structure of arrays: raw (D, panel) per panel. */
FG_INLINE void pack_as(const fg_job *job, int is_float32, int is_ordered, ptrdiff_t column_stride, int64_t first,
                       int n_panels, double *restrict raw)
{
    const int D = job->n_features;
    for (int q = 0; q < n_panels; q++) {
        for (int v = 0; v < FG_VECTORS; v++, first += FG_LANES) {
            const char *rows[FG_LANES];
            FG_UNROLL
            for (int l = 0; l < FG_LANES; l++)
                rows[l] = job->x + (is_ordered ? (int64_t)job->order[first + l] : first + l) * job->row_stride;
            double *to = raw + (ptrdiff_t)q * D * FG_PANEL + v * FG_LANES;
            for (ptrdiff_t i = 0; i < D; i++, to += FG_PANEL) {
#define FG_AT(l) (is_float32 ? (double)*(const float *)(rows[l] + i * column_stride) \
                             : *(const double *)(rows[l] + i * column_stride))
                store(to, FG_EACH_LANE(FG_AT));
#undef FG_AT
            }
        }
    }
}

/* One row, or the origin of the frame in its place. */
static void pack_row(const fg_job *job, int64_t row, int is_there, double *to)
{
    for (int i = 0; i < job->n_features; i++) {
        const char *from = job->x + row * job->row_stride + i * job->column_stride;
        to[(ptrdiff_t)i * FG_PANEL] = !is_there           ? job->shift[i]
                                      : job->x_is_float32 ? (double)*(const float *)from
                                                          : *(const double *)from;
    }
}

/* Padding and rows of weight zero are put at the origin of the frame, so that whatever they hold cannot overflow in
 * the sums: 0 * inf is not 0.  Where rows are ordered there are none of weight zero, and padding repeats the last
 * row: it must not come nearer to a component than a row. */
static void pack(const fg_job *job, const fg_scratch *s, int64_t first, int n_rows, int n_panels)
{
    const int D = job->n_features, n_full = n_rows / FG_PANEL;
    const ptrdiff_t item = job->x_is_float32 ? sizeof(float) : sizeof(double);
    const uint32_t *order = job->order ? job->order + first : NULL;
    if (order)
        pack_as(job, job->x_is_float32, 1, job->column_stride, first, n_full, s->raw);
    else if (job->column_stride != item)
        pack_as(job, job->x_is_float32, 0, job->column_stride, first, n_full, s->raw);
    else if (job->x_is_float32)
        pack_as(job, 1, 0, sizeof(float), first, n_full, s->raw);
    else
        pack_as(job, 0, 0, sizeof(double), first, n_full, s->raw);
    double *weight = s->row;
    for (int b = 0; b < n_panels * FG_PANEL; b++) {
        const int is_there = b < n_rows;
        const int64_t row = order ? order[is_there ? b : n_rows - 1] : first + b;
        weight[b] = !is_there ? 0.0 : job->row_weight ? job->row_weight[row] : 1.0;
        if (b >= n_full * FG_PANEL || weight[b] == 0.0)
            pack_row(job, row, order || weight[b] != 0.0,
                     s->raw + (ptrdiff_t)(b / FG_PANEL) * D * FG_PANEL + b % FG_PANEL);
    }
}

#endif
