# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True, embedsignature=True
"""Factorisations of all components at once: Cholesky factors, their inverses, natural parameters.

LAPACK is SciPy's, reached at run time through the function pointers scipy.linalg.cython_lapack exports. SciPy
1.18 renamed the integer type of these signatures, and Cython's cimport compares signatures as text, so a
module that cimports them would run only beside the SciPy it was built with. We take the pointers ourselves
and pass integers as 64-bit variables: on the little-endian machines fastgmm supports, a library of 32-bit
integers reads the same value from the same address.

Row-major storage: LAPACK, which is column-major, sees the transpose.  What it calls the lower triangle is our
upper one.
"""
import sys

from scipy.linalg import cython_lapack as _lapack

from cython.parallel cimport prange
from libc.math cimport fabs
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
ctypedef void (*lauum_t)(char *uplo, int64_t *n, double *a, int64_t *lda, int64_t *info) noexcept nogil


cdef void *lapack(str name) except NULL:
    capsule = _lapack.__pyx_capi__[name]
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


cdef potrf_t dpotrf = <potrf_t>lapack("dpotrf")
cdef trtri_t dtrtri = <trtri_t>lapack("dtrtri")
cdef lauum_t dlauum = <lauum_t>lapack("dlauum")


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
