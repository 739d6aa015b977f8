/* Vectors of FG_LANES reals, doubles or floats.
 *
 * GCC and Clang vector extensions: the same source gives SSE, AVX2, AVX-512 or NEON code, and each operation
 * rounds as the scalar one does.
 */
#ifndef FASTGMM_TILES_VECTOR_H
#define FASTGMM_TILES_VECTOR_H

#include <math.h>
#include <string.h>
#include "tiles_real.h"

#if !defined(__GNUC__) && !defined(__clang__)
#error "fastgmm's kernels need GCC or Clang (on Windows: clang-cl) for vector extensions"
#endif

#define FG_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define FG_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FG_UNROLL _Pragma("GCC unroll 16")
#endif

typedef real vec __attribute__((vector_size(sizeof(real) * FG_LANES), may_alias));
typedef real_bits ivec __attribute__((vector_size(sizeof(real) * FG_LANES), may_alias));
typedef real_unsigned uvec __attribute__((vector_size(sizeof(real) * FG_LANES), may_alias)); /* shifts, sums wrap */

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#if FG_LANES == 8 && !FG_IS_SINGLE
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif FG_LANES == 16
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
#elif FG_LANES == 4 && !FG_IS_SINGLE
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_pd((__m256d)a, (__m256d)b); }
#elif FG_LANES == 8
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
#elif FG_LANES == 2
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm_max_pd((__m128d)a, (__m128d)b); }
#else
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm_max_ps((__m128)a, (__m128)b); }
#endif
#else
FG_INLINE vec vmax(vec a, vec b)
{
    const ivec greater = (ivec)(a > b);
    return (vec)((greater & (ivec)a) | (~greater & (ivec)b));
}
#endif

FG_INLINE vec splat(real a) { return a - (vec){0}; }
FG_INLINE vec load(const real *p) { return *(const vec *)p; }   /* scratch is aligned */
FG_INLINE void store(real *p, vec a) { *(vec *)p = a; }
FG_INLINE vec vabs(vec a) { return (vec)((ivec)a & FG_ALL_BUT_SIGN); }
FG_INLINE vec where(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

/* A vector from an expression per lane. Written out, because compilers turn the loop into scatters. */
#if FG_LANES == 16
#define FG_EACH_LANE(f) \
    ((vec){f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)})
#elif FG_LANES == 8
#define FG_EACH_LANE(f) ((vec){f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)})
#elif FG_LANES == 4
#define FG_EACH_LANE(f) ((vec){f(0), f(1), f(2), f(3)})
#else
#define FG_EACH_LANE(f) ((vec){f(0), f(1)})
#endif

FG_INLINE double sum_lanes(vec a)
{
    double s = 0;
    FG_UNROLL
    for (int i = 0; i < FG_LANES; i++)
        s += a[i];
    return s;
}

/* The halves of a vector of floats, added up as doubles; a vector of doubles as it is. */
typedef double wide __attribute__((vector_size(8 * FG_WIDE_LANES), may_alias));
FG_INLINE wide widen(vec a)
{
#if FG_IS_SINGLE
    typedef float half __attribute__((vector_size(4 * FG_WIDE_LANES), aligned(4), may_alias));
    const real *lanes = (const real *)&a;
    return __builtin_convertvector(*(const half *)lanes, wide) +
           __builtin_convertvector(*(const half *)(lanes + FG_WIDE_LANES), wide);
#else
    return a;
#endif
}

/* out[0..3] += sums over the lanes of a, b, c, d: a transposition that adds on the way. */
FG_INLINE void add_sums4(double *out, vec a, vec b, vec c, vec d)
{
#if FG_LANES == 2
    const vec ab = __builtin_shufflevector(a, b, 0, 2) + __builtin_shufflevector(a, b, 1, 3);
    const vec cd = __builtin_shufflevector(c, d, 0, 2) + __builtin_shufflevector(c, d, 1, 3);
    out[0] += ab[0];
    out[1] += ab[1];
    out[2] += cd[0];
    out[3] += cd[1];
#else
    typedef real four __attribute__((vector_size(4 * sizeof(real)), may_alias));
    typedef double four_doubles __attribute__((vector_size(32), aligned(8), may_alias));
#if FG_LANES == 16
    /* each quarter of `sums` has partial sums of all four */
    const vec ab = __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
                   __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    const vec cd = __builtin_shufflevector(c, d, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
                   __builtin_shufflevector(c, d, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    const vec all = __builtin_shufflevector(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                    __builtin_shufflevector(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    const four sums = (__builtin_shufflevector(all, all, 0, 1, 2, 3) + __builtin_shufflevector(all, all, 4, 5, 6, 7)) +
                      (__builtin_shufflevector(all, all, 8, 9, 10, 11) +
                       __builtin_shufflevector(all, all, 12, 13, 14, 15));
#else
#if FG_LANES == 8
#define FG_FOLD(v) (__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7))
#else
#define FG_FOLD(v) (v)
#endif
    const four fa = FG_FOLD(a), fb = FG_FOLD(b), fc = FG_FOLD(c), fd = FG_FOLD(d);
#undef FG_FOLD
    const four ab = __builtin_shufflevector(fa, fb, 0, 4, 2, 6) + __builtin_shufflevector(fa, fb, 1, 5, 3, 7);
    const four cd = __builtin_shufflevector(fc, fd, 0, 4, 2, 6) + __builtin_shufflevector(fc, fd, 1, 5, 3, 7);
    const four sums = __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
#endif
    *(four_doubles *)out += __builtin_convertvector(sums, four_doubles);
#endif
}

#ifdef FG_SINGLE
#include "tiles_exp_single.h"
#else
#include "tiles_exp.h"
#endif

#endif
