# cython: language_level=3, boundscheck=False, wraparound=False
# cython: freethreading_compatible=True, embedsignature=True
"""Whether arrays still hold the numbers they held, asked by each call that scores rows: it must be quick."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcmp


cdef bint same_bytes(object array, object kept) except -1:
    cdef Py_buffer a, b
    PyObject_GetBuffer(array, &a, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(kept, &b, PyBUF_SIMPLE)
        same = a.len == b.len and memcmp(a.buf, b.buf, a.len) == 0
        PyBuffer_Release(&b)
    finally:
        PyBuffer_Release(&a)
    return same


def same_arrays(tuple arrays, tuple kept):
    """Whether C-contiguous arrays have the shapes, types and bytes of others, kept ones of class ndarray."""
    for array, other in zip(arrays, kept, strict=True):
        if array is other:
            continue
        if type(array) is not type(other) or array.dtype != other.dtype or array.shape != other.shape:
            return False
        if not array.flags.c_contiguous or not same_bytes(array, other):
            return False
    return True
