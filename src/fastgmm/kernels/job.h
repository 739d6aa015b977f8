/* What one pass is asked to do (fg_job), where one thread works (fg_scratch) and where its sums go.
 *
 * The pass reads blocks of rows and, for each block, runs   pack > score > normalise > accumulate.
 * `tiles.h` holds those stages; it is compiled once per instruction set.  Everything here is shared.
 *
 * Notation: D features, K components, P terms of the feature vector phi (without its leading 1).
 * All matrices are row-major, float64 but for those of fg_single.  "Frame": z = (x - shift) * scale, the
 * coordinates in which the scores are linear in phi(z).  "Projected" scores use y = root' ((x - centre) * scale)
 * instead, which is exact where the expansion in powers of z is not.
 */
#ifndef FASTGMM_JOB_H
#define FASTGMM_JOB_H

#include <stddef.h>
#include <stdint.h>

/* Terms of phi besides the 1. */
enum fg_terms {
    FG_NONE = 0,      /* no feature path: every score is projected                     P = 0              */
    FG_LINEAR = 1,    /* z_i                                                           P = D              */
    FG_SPHERICAL = 2, /* z_i, |z|^2                                                    P = D + 1          */
    FG_DIAGONAL = 3,  /* z_i, z_i^2                                                    P = 2 D            */
    FG_FULL = 4       /* z_i, z_i z_j for i <= j, ordered (0,0) (0,1) .. (1,1) ..      P = D + D(D+1)/2   */
};

/* Shape of a root (square root of a precision) and of second moments. */
enum fg_shape { FG_SCALAR = 0, FG_VECTOR = 1, FG_MATRIX = 2 };

/* Where responsibilities come from. */
enum fg_source { FG_SCORES = 0, FG_GIVEN = 1, FG_LABELS = 2 };

/* Sums at the head of an accumulator, before weights, moments and scatter. */
enum fg_head {
    FG_LOG_LIKELIHOOD = 0, /* sum_n w_n log p(x_n)                         */
    FG_LOG_MAX = 1,        /* sum_n w_n log max_k r_nk                     */
    FG_WEIGHT = 2,         /* sum_n w_n                                    */
    FG_PAIRS = 3,          /* (block, component) pairs scored              */
    FG_PAIRS_CENTRED = 4,  /* of these, scored by the projected kernel     */
    FG_PAIRS_SINGLE = 5,   /* of all pairs, scored in single precision     */
    FG_HEAD = 8            /* length, padded to a cache line               */
};

/* Rows of a block are a multiple of this, and every instruction set's panel divides it (tiles.h checks). */
enum fg_block { FG_BLOCK_STEP = 96 };

/* Points whose distances are taken together: whole vectors of any instruction set. */
enum fg_points { FG_POINTS = 8 };
/* What a pass in single precision has besides: the parameters of a job, rounded, under the same names.  A name with
 * `_low` holds what rounding left over.  Scores are less `base`, which may be large, as are their offsets. */
typedef struct {
    const float *coef, *offset, *offset_low;
    const float *root, *constant, *common_root;
    const float *centre, *centre_low, *about, *about_low, *shift, *shift_low, *scale;
    double base;
    double limit;            /* as fg_job's */
    double largest_reach;    /* a block that reaches further, in the frame, is done in double precision */
    const double *roughness; /* (K,) error of a projected score, as a share of the squared distance */
    double largest_roughness; /* a block where a rougher component has a part is done in double precision */
    double largest_error;    /* in projected scores that matter; with more the block is done in double precision */
    /* No score that passed these tests errs by more than `slack` if it is projected, its squared distance by no more
     * than share * roughness_k of it, and no other by more than feature_share times the bound of job.bound. */
    double slack, share, feature_share;
} fg_single;

typedef struct {
    /* rows, IN */
    const char *x;
    ptrdiff_t row_stride, column_stride; /* bytes */
    int x_is_float32;
    int n_features, n_components;
    const double *row_weight; /* or NULL: all 1 */
    const uint32_t *order;    /* row at each position, or NULL: rows as they lie */
    const double *shift, *scale;

    /* shared-feature scores, IN: offset_k + sum_p coef_kp phi_p(z) */
    int terms, n_terms;
    const double *coef, *offset;
    /* bound on the sum of absolute terms of a score over a block; beyond `limit` the pair is projected.
     * a_k = bound_offset_k + sum_p bound_kp phi_p(r) (+ the common term's), r_i = max |z_i| over the block. */
    const double *bound, *bound_offset;
    double limit;

    /* projected scores, IN: constant_k - |root_k' ((x - centre_k) * scale)|^2 / 2 */
    int root_shape, root_is_shared;
    const double *centre, *root, *constant; /* matrix roots are stored transposed: row j is column j of the factor */
    int always_project;                     /* 1: never use the feature scores */
    int project_whole_block;                /* 1: one pair beyond the limit projects all of the block's */
    /* A projected score s errs by at most error_share_k (1 + 2 (constant_k - s)); where that is more than largest_error
     * and matters it is made with compensation (tiles_compensated.h).  NULL: never. Matrix roots only, no pruning. */
    const double *error_share;
    double largest_error;

    /* term common to all components, added to feature scores (tied covariances, k-means), IN: -|y|^2 / 2,
     * y = common_root z.  It adds max |y| (| |common_root| r | + common_reach) to every a_k. */
    const double *common_root; /* or NULL */
    int common_shape;          /* FG_MATRIX, lower triangular, or FG_VECTOR: a diagonal */
    double common_reach;

    /* responsibilities, IN */
    int source;
    const double *given; /* (n_rows, K), C order */
    const int64_t *labels;
    int hard; /* 1: r_nk = 1 for the best score, 0 for the others */

    /* pruning (tiles_prune.h), distance NULL: every component is scored for every row.  Blocks of positions. */
    float *distance;              /* IN, OUT (n_bounds, K): no row of the blocks is nearer, in Mahalanobis distance;
                                   * with a minus where the component was not scored, or may not matter */
    int blocks_per_bound;         /* of bound number i: blocks i * blocks_per_bound and following */
    int64_t n_blocks;
    double *least;                /* IN a guess, OUT (n_blocks,): no row's log density is smaller */
    const double *drift_shift, *drift_factor; /* IN (K,): distance now >= (distance then - shift) * factor */
    const double *margin;         /* IN (K,): a score this far below the log density of a row is negligible */

    /* accumulation, IN */
    int accumulate;
    int accumulate_terms;         /* T_k = sum w r phi(z) */
    const int *slot;              /* (K,) place among centred moments, -1: about the origin */
    const double *about;          /* (K, D) centres, user units, for components with a slot */
    int n_slots, moment_shape, moments_are_pooled;
    int want_scatter;             /* sum_n w_n (sum_k r_nk) z z' */

    /* per row, OUT, each or NULL */
    double *out_log_density;      /* (n_rows,) */
    int64_t *out_labels;          /* (n_rows,) */
    double *out_responsibilities; /* (n_rows, K) */
    double *out_scores;           /* (n_rows, K) */
    int32_t *out_key;             /* by position: K * best component + second best */
    float *out_key_density;       /* by position: log p, to sort by */

    /* layout of an accumulator: offsets in doubles */
    ptrdiff_t at_weight, at_terms, at_first, at_second, at_scatter, accumulator_size;

    /* single precision, IN: for the kernels of fg_kernels.single only */
    fg_single single;
} fg_job;

/* Scratch of one thread; panel-major arrays are [panel][row of the matrix][rows of the panel].  In single precision
 * the first six and `best` hold floats. */
typedef struct {
    int block_rows;   /* multiple of FG_BLOCK_STEP        */
    double *raw;      /* (D) packed rows, user units      */
    double *phi;      /* (P) features; the first D are z; with FG_NONE z only */
    double *resp;     /* (K) scores, then weighted responsibilities */
    double *centred;  /* (D) (x - centre) * scale; one panel is enough where no moments are centred */
    double *weighted; /* (D) r * centred, or r * z; likewise */
    double *row;      /* 2 vectors of block_rows: weight, common term */
    double *reach;    /* (P) max |z| of the block and its features */
    double *best;     /* a vector of block_rows: best score of each row so far, while pruning */
    double *highest;  /* (K) a component with a score beyond what row densities allow may be skipped */
    float *near;      /* (K) what is known after this block of its distances (as job->distance) */
    float *nearest;   /* (K) likewise, of all blocks of the bound so far */
    unsigned char *project; /* (K,) by component */
    int *identity;    /* 0, 1, 2, ..., max(K, D) - 1 */
    int *panels;      /* of the block, those with anything to add up */
    int *active;      /* (K,) components scored in this block, one per row of resp */
    int *by_number;   /* (K,) rows of resp in the order of their components: of equal scores the first counts */
} fg_scratch;

typedef struct fg_kernels {
    const char *name;
    /* one block of positions [first, first + n_rows), n_rows <= scratch->block_rows; sums are added to acc */
    void (*block)(const fg_job *job, fg_scratch *scratch, int64_t first, int n_rows, double *acc);
    /* elementwise, for tests: exp for x <= 0, log for x > 0 */
    void (*exp_array)(const double *x, double *out, ptrdiff_t n);
    void (*log_array)(const double *x, double *out, ptrdiff_t n);
    /* squared distances of n rows of x (strides in bytes) to FG_POINTS points (D, FG_POINTS): out (n, FG_POINTS) */
    void (*point_distances)(const char *x, ptrdiff_t row_stride, ptrdiff_t column_stride, int is_float32,
                            int n_features, const int64_t *rows, int n, const double *points, double *out);
    const struct fg_kernels *single; /* the same in single precision; NULL in those */
} fg_kernels;

#endif
