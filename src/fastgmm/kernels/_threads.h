/* What the schedule needs of threads: OpenMP (this is the only file that knows it), flags, a clock, waiting.
 *
 * Without OpenMP everything runs on one thread, with the same bits.  Include after Python.h, which asks the
 * C library for POSIX functions.
 */
#ifndef FASTGMM_THREADS_H
#define FASTGMM_THREADS_H

#ifdef _OPENMP

#include <omp.h>
typedef omp_lock_t fg_lock;
static inline int fg_openmp_enabled(void) { return 1; }
static inline int fg_max_threads(void) { return omp_get_max_threads(); }
static inline void fg_lock_init(fg_lock *lock) { omp_init_lock(lock); }
static inline void fg_lock_destroy(fg_lock *lock) { omp_destroy_lock(lock); }
static inline void fg_lock_set(fg_lock *lock) { omp_set_lock(lock); }
static inline void fg_lock_unset(fg_lock *lock) { omp_unset_lock(lock); }

#else

typedef int fg_lock;
static inline int fg_openmp_enabled(void) { return 0; }
static inline int fg_max_threads(void) { return 1; }
static inline void fg_lock_init(fg_lock *lock) { *lock = 0; }
static inline void fg_lock_destroy(fg_lock *lock) { (void)lock; }
static inline void fg_lock_set(fg_lock *lock) { (void)lock; }
static inline void fg_lock_unset(fg_lock *lock) { (void)lock; }

#endif

/* A flag that any thread may raise and all of them read without a lock. */
#if defined(_MSC_VER) && !defined(__clang__) /* cl.exe, which compiles the Cython modules on Windows */

#include <intrin.h>
typedef volatile long fg_flag;
static inline int fg_flag_is_raised(fg_flag *flag) { return _InterlockedOr(flag, 0) != 0; }
static inline void fg_flag_raise(fg_flag *flag) { _InterlockedExchange(flag, 1); }
static inline void fg_flag_clear(fg_flag *flag) { _InterlockedExchange(flag, 0); }

#else

typedef int fg_flag;
static inline int fg_flag_is_raised(fg_flag *flag) { return __atomic_load_n(flag, __ATOMIC_ACQUIRE); }
static inline void fg_flag_raise(fg_flag *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELEASE); }
static inline void fg_flag_clear(fg_flag *flag) { __atomic_store_n(flag, 0, __ATOMIC_RELEASE); }

#endif

/* Seconds since some moment, by a clock never set back; let other threads run; sleep for about 1 ms. */
#if defined(_WIN32)

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
static inline double fg_seconds(void)
{
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return (double)count.QuadPart / (double)frequency.QuadPart;
}
static inline void fg_yield(void) { SwitchToThread(); }
static inline void fg_sleep(void) { Sleep(1); }

#else

#include <sched.h>
#include <time.h>
static inline double fg_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
static inline void fg_yield(void) { sched_yield(); }
static inline void fg_sleep(void)
{
    const struct timespec millisecond = {0, 1000000};
    nanosleep(&millisecond, 0); /* a signal ends it early, which is as good */
}

#endif

#endif
