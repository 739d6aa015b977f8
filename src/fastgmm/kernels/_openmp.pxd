# The only door to OpenMP; see _openmp.h.
cdef extern from "_openmp.h" nogil:
    ctypedef struct fg_lock:
        pass
    bint fg_openmp_enabled()
    int fg_max_threads()
    int fg_n_procs()
    void fg_lock_init(fg_lock *lock)
    void fg_lock_destroy(fg_lock *lock)
    void fg_lock_set(fg_lock *lock)
    void fg_lock_unset(fg_lock *lock)
    double fg_seconds()
    void fg_yield()
