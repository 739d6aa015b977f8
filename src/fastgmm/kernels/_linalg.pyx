# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True, embedsignature=True
"""Factorisations of all components at once: Cholesky factors, their inverses, natural parameters.

BLAS and LAPACK are SciPy's, reached at run time through the function pointers that scipy.linalg.cython_blas
and cython_lapack export. SciPy 1.18 renamed the integer type of these signatures, and Cython's cimport
compares signatures as text, so a module that cimports them would run only beside the SciPy it was built with.
We take the pointers ourselves and pass integers as 64-bit variables: on the little-endian machines fastgmm
supports, a library of 32-bit integers reads the same value from the same address.

Row-major storage: LAPACK, which is column-major, sees the transpose.  What it calls the lower triangle is our
upper one.
"""
import sys

from scipy.linalg import cython_blas as _blas
from scipy.linalg import cython_lapack as _lapack

from cython.parallel cimport prange, threadid
from libc.math cimport fabs, sqrt
from libc.stdint cimport int64_t
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer

if sys.byteorder != "little":
    raise ImportError("fastgmm supports little-endian machines only")

# With fewer, one thread does it all: waking the others costs more than the factorisations.
cdef Py_ssize_t FEWEST_FLOPS_FOR_THREADS = 4_000_000

ctypedef void (*potrf_t)(char *uplo, int64_t *n, double *a, int64_t *lda, int64_t *info) noexcept nogil
ctypedef void (*trtri_t)(
    char *uplo, char *diag, int64_t *n, double *a, int64_t *lda, int64_t *info,
) noexcept nogil
ctypedef void (*trsm_t)(
    char *side, char *uplo, char *transa, char *diag, int64_t *m, int64_t *n, double *alpha, double *a,
    int64_t *lda, double *b, int64_t *ldb,
) noexcept nogil
ctypedef void (*syrk_t)(
    char *uplo, char *trans, int64_t *n, int64_t *k, double *alpha, double *a, int64_t *lda, double *beta,
    double *c, int64_t *ldc,
) noexcept nogil
ctypedef void (*lauum_t)(char *uplo, int64_t *n, double *a, int64_t *lda, int64_t *info) noexcept nogil


cdef void *exported(module, str name) except NULL:
    capsule = module.__pyx_capi__[name]
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


cdef potrf_t dpotrf = <potrf_t>exported(_lapack, "dpotrf")
cdef trtri_t dtrtri = <trtri_t>exported(_lapack, "dtrtri")
cdef lauum_t dlauum = <lauum_t>exported(_lapack, "dlauum")
cdef trsm_t dtrsm = <trsm_t>exported(_blas, "dtrsm")
cdef syrk_t dsyrk = <syrk_t>exported(_blas, "dsyrk")


cdef int invert_root(
    double *a,    # IN: symmetric positive definite (D, D); OUT: upper triangular U with inverse(a) = U U'
    int64_t D,
) noexcept nogil:
    """0, or LAPACK's code when `a` is not positive definite."""
    cdef int64_t info = 0, n = D, i, j
    dpotrf(b"L", &n, a, &n, &info)          # a = L L', stored as L' on and above our diagonal
    if info != 0:
        return 1
    dtrtri(b"L", b"N", &n, a, &n, &info)    # L^-1, stored as L^-T = U
    if info != 0:
        return 1
    for i in range(D):
        for j in range(i):
            a[i * D + j] = 0.0
    for i in range(D):
        if not a[i * D + i] < 1e300:        # NaN and overflow
            return 1
    return 0


def precision_roots(
    const double[:, :, ::1] covariances, double[:, :, ::1] roots, int[::1] failed, int n_threads,
):
    """Upper triangular U_k with inverse(covariances_k) = U_k U_k'; failed_k != 0 where there is none.

    One component per thread; BLAS itself must be single-threaded, or results depend on the number of threads.
    """
    cdef Py_ssize_t K = covariances.shape[0], D = covariances.shape[1], k
    roots[:, :, :] = covariances
    if n_threads <= 1 or K * D * D * D < FEWEST_FLOPS_FOR_THREADS:
        for k in range(K):
            failed[k] = invert_root(&roots[k, 0, 0], D)
    else:
        for k in prange(K, nogil=True, num_threads=n_threads, schedule="dynamic"):
            failed[k] = invert_root(&roots[k, 0, 0], D)


cdef void natural_one(
    const double *root,     # IN (D, D) upper triangular, user units
    const double *mean,     # IN (D,) frame
    const double *scale,    # IN (D,)
    double constant,        # IN log weight + log normalisation
    double *precision,      # SCRATCH, OUT (D, D): U' in the frame
    double *coef,           # OUT (P,)
    double *offset,         # OUT
    double *bound,          # OUT (P,)
    double *bound_offset,   # OUT
    Py_ssize_t D,
) noexcept nogil:
    cdef Py_ssize_t i, j, p
    cdef int64_t n = D, info = 0
    cdef double b, g, a, quadratic = 0.0, absolute = 0.0
    for i in range(D):
        for j in range(D):
            precision[i * D + j] = root[i * D + j] / scale[i]
    dlauum(b"L", &n, precision, &n, &info)  # U U' on and above our diagonal
    for i in range(D):
        for j in range(i):
            precision[i * D + j] = precision[j * D + i]
    p = D
    for i in range(D):
        b = 0.0
        g = 0.0
        for j in range(D):
            a = precision[i * D + j]
            b += a * mean[j]
            g += fabs(a) * fabs(mean[j])
        coef[i] = b
        bound[i] = 2.0 * g
        quadratic += b * mean[i]
        absolute += g * fabs(mean[i])
        for j in range(i, D):
            a = precision[i * D + j]
            coef[p] = -0.5 * a if i == j else -a
            bound[p] = fabs(a) if i == j else 2.0 * fabs(a)
            p += 1
    offset[0] = constant - 0.5 * quadratic
    bound_offset[0] = absolute
    for i in range(D):
        for j in range(D):
            precision[i * D + j] = root[j * D + i] / scale[j]


def natural_parameters(
    const double[:, :, ::1] roots, const double[:, ::1] means, const double[::1] scale,
    const double[::1] constants, double[:, ::1] coef, double[::1] offset, double[:, ::1] bound,
    double[::1] bound_offset, double[:, :, ::1] frame_roots, int n_threads,
):
    """Coefficients of the score on 1, z_i, z_i z_j (i <= j) for full covariances, and bounds on their terms.

    roots: precision factors in user units; means in the frame, whose scale is `scale`. frame_roots receives
    the transposed factors in the frame (row j is column j), as the projected kernel wants them.
    """
    cdef Py_ssize_t K = roots.shape[0], D = roots.shape[1], k
    if n_threads <= 1 or K * D * D * D < FEWEST_FLOPS_FOR_THREADS:
        for k in range(K):
            natural_one(&roots[k, 0, 0], &means[k, 0], &scale[0], constants[k], &frame_roots[k, 0, 0],
                        &coef[k, 0], &offset[k], &bound[k, 0], &bound_offset[k], D)
    else:
        for k in prange(K, nogil=True, num_threads=n_threads, schedule="dynamic"):
            natural_one(&roots[k, 0, 0], &means[k, 0], &scale[0], constants[k], &frame_roots[k, 0, 0],
                        &coef[k, 0], &offset[k], &bound[k, 0], &bound_offset[k], D)


cdef void square(double *a, double *b, int64_t D) noexcept nogil:
    """b = a a' (D, D), whole."""
    cdef int64_t n = D, i, j
    cdef double one = 1.0, zero = 0.0
    dsyrk(b"L", b"N", &n, &n, &one, a, &n, &zero, b, &n)
    for i in range(D):
        for j in range(i):
            b[i * D + j] = b[j * D + i]


cdef double norm_of_ratio(
    const double *old,      # IN (D, D) upper triangular, as new
    const double *new,
    double *a, double *b,   # SCRATCH (D, D)
    int64_t D,
) noexcept nogil:
    """An upper bound of |old' inverse(new)'|_2; NaN or infinite where there is none."""
    cdef int64_t n = D, i
    cdef double one = 1.0, mean = 0.0, total = 0.0, largest = 0.0
    for i in range(D * D):
        a[i] = old[i]
    dtrsm(b"R", b"L", b"N", b"N", &n, &n, &one, <double *>new, &n, a, &n)
    square(a, b, D)
    # The largest eigenvalue of S is c + that of E = S - c, and |E|_2 <= |E^4|_F^(1/4) is at most D^(1/8) too
    # large. With c the mean of the eigenvalues E vanishes where the ratio is a number.
    for i in range(D):
        mean += b[i * D + i] / D
    for i in range(D):
        b[i * D + i] -= mean
    for i in range(D * D):
        largest = max(largest, fabs(b[i]))
    if largest > 0.0:  # or powers of small ones would vanish
        for i in range(D * D):
            b[i] /= largest
    square(b, a, D)
    square(a, b, D)
    for i in range(D * D):
        total += b[i] * b[i]
    return sqrt(mean + largest * sqrt(sqrt(sqrt(total))))


def ratio_norms(
    const double[:, :, ::1] old, const double[:, :, ::1] new, double[::1] norms, double[:, :, :, ::1] scratch,
):
    """norms_k >= |L_k^-1 L'_k|_2, L L' and L' L'' the covariances of precision factors old_k and new_k.

    scratch: (number of threads to use, 2, D, D). The products cost 2 D^3 multiplications per component.
    """
    cdef Py_ssize_t K = old.shape[0], D = old.shape[1], k
    cdef int n_threads = <int>scratch.shape[0], t
    if n_threads <= 1 or K * D * D * D < FEWEST_FLOPS_FOR_THREADS:
        for k in range(K):
            norms[k] = norm_of_ratio(
                &old[k, 0, 0], &new[k, 0, 0], &scratch[0, 0, 0, 0], &scratch[0, 1, 0, 0], D)
    else:
        for k in prange(K, nogil=True, num_threads=n_threads, schedule="dynamic"):
            t = threadid()
            norms[k] = norm_of_ratio(
                &old[k, 0, 0], &new[k, 0, 0], &scratch[t, 0, 0, 0], &scratch[t, 1, 0, 0], D)


def mirror(double[:, :, ::1] matrices):
    """What is above the diagonal (K, D, D) is copied below it."""
    cdef Py_ssize_t K = matrices.shape[0], D = matrices.shape[1], k, i, j
    with nogil:
        for k in range(K):
            for i in range(1, D):
                for j in range(i):
                    matrices[k, i, j] = matrices[k, j, i]
