# Declarations of job.h and dispatch.h, which explain the fields.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint32_t

cdef extern from "job.h" nogil:
    enum:
        FG_HEAD
        FG_SCORES
        FG_GIVEN
        FG_LABELS
        FG_NONE
        FG_LINEAR
        FG_SPHERICAL
        FG_DIAGONAL
        FG_FULL
        FG_SCALAR
        FG_VECTOR
        FG_MATRIX
        FG_LOG_LIKELIHOOD
        FG_LOG_MAX
        FG_WEIGHT
        FG_PAIRS
        FG_PAIRS_CENTRED
        FG_PAIRS_SINGLE
        FG_BLOCK_STEP
        FG_POINTS

    ctypedef struct fg_single:
        const float *coef
        const float *offset
        const float *offset_low
        const float *root
        const float *constant
        const float *common_root
        const float *centre
        const float *centre_low
        const float *about
        const float *about_low
        const float *shift
        const float *shift_low
        const float *scale
        double base, limit, largest_reach, largest_roughness, largest_error, slack, share, feature_share
        const double *roughness

    ctypedef struct fg_job:
        const char *x
        ptrdiff_t row_stride, column_stride
        int x_is_float32
        int n_features, n_components
        const double *row_weight
        const uint32_t *order
        const double *shift
        const double *scale
        int terms, n_terms
        const double *coef
        const double *offset
        const double *bound
        const double *bound_offset
        double limit
        int root_shape, root_is_shared
        const double *centre
        const double *root
        const double *constant
        int always_project, project_whole_block
        const double *error_share
        double largest_error
        const double *common_root
        int common_shape
        double common_reach
        int source
        const double *given
        const int64_t *labels
        int hard
        float *distance
        double *least
        const double *drift_shift
        const double *drift_factor
        const double *margin
        int blocks_per_bound
        int64_t n_blocks
        int accumulate
        int accumulate_terms
        const int *slot
        const double *about
        int n_slots, moment_shape, moments_are_pooled
        int want_scatter
        double *out_log_density
        int64_t *out_labels
        double *out_responsibilities
        double *out_scores
        int32_t *out_key
        float *out_key_density
        ptrdiff_t at_weight, at_terms, at_first, at_second, at_scatter, accumulator_size
        fg_single single

    ctypedef struct fg_scratch:
        int block_rows
        double *raw
        double *phi
        double *resp
        double *centred
        double *weighted
        double *row
        double *reach
        double *best
        double *highest
        float *near
        float *nearest
        unsigned char *project
        int *identity
        int *panels
        int *active
        int *by_number

    ctypedef struct fg_kernels:
        const char *name
        void (*block)(
            const fg_job *job, fg_scratch *scratch, int64_t first, int n_rows, double *acc,
        ) noexcept nogil
        void (*exp_array)(const double *x, double *out, ptrdiff_t n) noexcept nogil
        void (*log_array)(const double *x, double *out, ptrdiff_t n) noexcept nogil
        void (*point_distances)(
            const char *x, ptrdiff_t row_stride, ptrdiff_t column_stride, int is_float32, int n_features,
            const int64_t *rows, int n, const double *points, double *out,
        ) noexcept nogil
        const fg_kernels *single

cdef extern from "dispatch.h" nogil:
    int fg_available(const fg_kernels **tables, int capacity)
