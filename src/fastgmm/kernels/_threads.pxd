# Threads, flags, the clock; see _threads.h.
cdef extern from "_threads.h" nogil:
    ctypedef struct fg_lock:
        pass
    ctypedef struct fg_flag:
        pass
    bint fg_openmp_enabled()
    int fg_max_threads()
    void fg_lock_init(fg_lock *lock)
    void fg_lock_destroy(fg_lock *lock)
    void fg_lock_set(fg_lock *lock)
    void fg_lock_unset(fg_lock *lock)
    bint fg_flag_is_raised(fg_flag *flag)
    void fg_flag_raise(fg_flag *flag)
    void fg_flag_clear(fg_flag *flag)
    double fg_seconds()
    void fg_yield()
    void fg_sleep()
