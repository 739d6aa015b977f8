/* The numbers that the tiles compute with: double, or with FG_SINGLE float.
 *
 * One source serves both.  Parameters are read through FG_OF, from the job or from its rounded copies; scratch
 * through `scratch`, the same memory with arrays of `real`.  Bounds, sums over blocks and whatever is compared
 * with them are double in either case.
 */
#ifndef FASTGMM_TILES_REAL_H
#define FASTGMM_TILES_REAL_H

#include <float.h>
#include "job.h"

#ifdef FG_SINGLE
#define FG_IS_SINGLE 1
typedef float real;
typedef int32_t real_bits;
typedef uint32_t real_unsigned;
#define FG_REAL_MAX FLT_MAX
#define FG_ALL_BUT_SIGN INT32_MAX
#define FG_WIDE_LANES (FG_LANES / 2)
#define FG_OF(job, name) ((job)->single.name)
#define FG_LOW(job, name) ((job)->single.name##_low)
#define FG_BASE(job) ((job)->single.base)
#else
#define FG_IS_SINGLE 0
typedef double real;
typedef int64_t real_bits;
typedef uint64_t real_unsigned;
#define FG_REAL_MAX DBL_MAX
#define FG_ALL_BUT_SIGN INT64_MAX
#define FG_WIDE_LANES FG_LANES
#define FG_OF(job, name) ((job)->name)
#define FG_LOW(job, name) ((job)->name) /* not read: nothing is left over */
#define FG_BASE(job) 0.0
#endif

/* fg_scratch, which explains the fields, as arrays of real. */
typedef struct {
    int block_rows;
    real *raw, *phi, *resp, *centred, *weighted, *row, *best;
    double *reach, *highest;
    unsigned char *project;
    float *near, *nearest;
    int *identity, *panels, *active, *by_number;
    double *largest_bound; /* on the terms of a score that is expanded in features, in this block */
} scratch;

static scratch scratch_of(const fg_scratch *s, double *largest_bound)
{
    return (scratch){
        .block_rows = s->block_rows,
        .raw = (real *)s->raw,
        .phi = (real *)s->phi,
        .resp = (real *)s->resp,
        .centred = (real *)s->centred,
        .weighted = (real *)s->weighted,
        .row = (real *)s->row,
        .best = (real *)s->best,
        .reach = s->reach,
        .highest = s->highest,
        .project = s->project,
        .identity = s->identity,
        .panels = s->panels,
        .active = s->active,
        .by_number = s->by_number,
        .near = s->near,
        .nearest = s->nearest,
        .largest_bound = largest_bound,
    };
}

#endif
