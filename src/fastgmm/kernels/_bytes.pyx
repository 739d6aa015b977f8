# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True, embedsignature=True
"""Whether arrays still hold the numbers they held, asked by each call that scores rows: it must be quick."""
from cpython.buffer cimport (
    PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.string cimport memcmp


cdef bint same_bytes(const Py_buffer *a, const Py_buffer *b) noexcept:
    """Whether a is C-contiguous, as b is, and of the same shape and bytes."""
    cdef int i
    if a.ndim != b.ndim or a.len != b.len or not PyBuffer_IsContiguous(<Py_buffer *>a, b"C"):
        return False
    for i in range(a.ndim):
        if a.shape[i] != b.shape[i]:
            return False
    return memcmp(a.buf, b.buf, a.len) == 0


cdef bint same_array(object array, object kept) except -1:
    cdef Py_buffer a, b
    if array is kept:
        return True
    if type(array) is not type(kept):
        return False
    dtype = array.dtype
    if dtype is not kept.dtype and dtype != kept.dtype:
        return False
    PyObject_GetBuffer(array, &a, PyBUF_STRIDES)
    try:
        PyObject_GetBuffer(kept, &b, PyBUF_STRIDES)
        same = same_bytes(&a, &b)
        PyBuffer_Release(&b)
    finally:
        PyBuffer_Release(&a)
    return same


def same_arrays(tuple arrays, tuple kept):
    """Whether C-contiguous arrays have the shapes, types and bytes of others, kept ones of class ndarray."""
    cdef Py_ssize_t i
    if len(arrays) != len(kept):
        raise ValueError("the arguments differ in length")
    for i in range(len(arrays)):
        if not same_array(arrays[i], kept[i]):
            return False
    return True
