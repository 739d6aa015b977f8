/* The only file that knows OpenMP. Without it everything runs on one thread, with the same bits. */
#ifndef FASTGMM_OPENMP_H
#define FASTGMM_OPENMP_H

#ifdef _OPENMP

#include <omp.h>
typedef omp_lock_t fg_lock;
static inline int fg_openmp_enabled(void) { return 1; }
static inline int fg_max_threads(void) { return omp_get_max_threads(); }
static inline int fg_n_procs(void) { return omp_get_num_procs(); }
static inline void fg_lock_init(fg_lock *lock) { omp_init_lock(lock); }
static inline void fg_lock_destroy(fg_lock *lock) { omp_destroy_lock(lock); }
static inline void fg_lock_set(fg_lock *lock) { omp_set_lock(lock); }
static inline void fg_lock_unset(fg_lock *lock) { omp_unset_lock(lock); }

#else

typedef int fg_lock;
static inline int fg_openmp_enabled(void) { return 0; }
static inline int fg_max_threads(void) { return 1; }
static inline int fg_n_procs(void) { return 1; }
static inline void fg_lock_init(fg_lock *lock) { *lock = 0; }
static inline void fg_lock_destroy(fg_lock *lock) { (void)lock; }
static inline void fg_lock_set(fg_lock *lock) { (void)lock; }
static inline void fg_lock_unset(fg_lock *lock) { (void)lock; }

#endif

#if defined(_WIN32)
#include <windows.h>
static inline double fg_seconds(void)
{
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return (double)count.QuadPart / (double)frequency.QuadPart;
}
static inline void fg_yield(void) { SwitchToThread(); }
#else
#include <sched.h>
#include <sys/time.h>
static inline double fg_seconds(void)
{
    struct timeval now;
    gettimeofday(&now, 0);
    return (double)now.tv_sec + 1e-6 * (double)now.tv_usec;
}
static inline void fg_yield(void) { sched_yield(); }
#endif

#endif
