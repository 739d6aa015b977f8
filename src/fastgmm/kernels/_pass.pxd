# What other modules need of the pass: the kernels of the instruction set in use.
from ._job cimport fg_kernels

cdef const fg_kernels *kernels_in_use() noexcept
