/* Vectors of FG_LANES doubles, and exp and log on them.
 *
 * GCC and Clang vector extensions: the same source gives SSE, AVX2, AVX-512 or NEON code, and each operation
 * rounds as the scalar one does.  exp and log are ours so that every platform runs the same algorithm; their errors
 * (a few units in the last place) are tested against mpmath.
 */
#ifndef FASTGMM_TILES_VECTOR_H
#define FASTGMM_TILES_VECTOR_H

#include <float.h>
#include <math.h>
#include <string.h>
#include "job.h"

#if !defined(__GNUC__) && !defined(__clang__)
#error "fastgmm's kernels need GCC or Clang (on Windows: clang-cl) for vector extensions"
#endif

#define FG_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define FG_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FG_UNROLL _Pragma("GCC unroll 16")
#endif

typedef double vec __attribute__((vector_size(8 * FG_LANES), may_alias));
typedef int64_t ivec __attribute__((vector_size(8 * FG_LANES), may_alias));
typedef uint64_t uvec __attribute__((vector_size(8 * FG_LANES), may_alias)); /* bits: shifts and sums wrap */

#if FG_LANES == 8
#include <immintrin.h>
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif FG_LANES == 4
#include <immintrin.h>
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_pd((__m256d)a, (__m256d)b); }
#elif defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
FG_INLINE vec vmax(vec a, vec b) { return (vec)_mm_max_pd((__m128d)a, (__m128d)b); }
#else
FG_INLINE vec vmax(vec a, vec b)
{
    const ivec greater = (ivec)(a > b);
    return (vec)((greater & (ivec)a) | (~greater & (ivec)b));
}
#endif

FG_INLINE vec splat(double a) { return a - (vec){0}; }
FG_INLINE vec load(const double *p) { return *(const vec *)p; }   /* scratch is aligned */
FG_INLINE void store(double *p, vec a) { *(vec *)p = a; }
FG_INLINE vec vabs(vec a) { return (vec)((ivec)a & INT64_MAX); }
FG_INLINE vec where(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

/* A vector from an expression per lane. Written out, because compilers turn the loop into scatters. */
#if FG_LANES == 8
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
    typedef double half __attribute__((vector_size(32), aligned(8), may_alias));
#if FG_LANES == 8
#define FG_FOLD(v) (__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7))
#else
#define FG_FOLD(v) (v)
#endif
    typedef double four __attribute__((vector_size(32), may_alias));
    const four fa = FG_FOLD(a), fb = FG_FOLD(b), fc = FG_FOLD(c), fd = FG_FOLD(d);
#undef FG_FOLD
    const four ab = __builtin_shufflevector(fa, fb, 0, 4, 2, 6) + __builtin_shufflevector(fa, fb, 1, 5, 3, 7);
    const four cd = __builtin_shufflevector(fc, fd, 0, 4, 2, 6) + __builtin_shufflevector(fc, fd, 1, 5, 3, 7);
    const four sums = __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(half *)out += sums;
#endif
}

/* exp(x) for x <= 0 (NaN stays NaN).  x = n ln 2 + r with |r| <= ln(2)/2; exp(r) by its Taylor series, whose
 * remainder r^14/14! < 5e-18 lies below half a unit in the last place; 2^n by adding n to the exponent.
 * Below log(DBL_MIN) the result is 0: subnormal responsibilities are worth nothing and cost hundreds of cycles. */
FG_INLINE vec exp_nonpositive(vec x)
{
    const double round_shift = 0x1.8p52;            /* adding it rounds to an integer, kept in the low bits */
    const double ln2_high = 0x1.62e42feep-1;        /* 32 bits: n * ln2_high is exact */
    const double ln2_low = 0x1.a39ef35793c76p-33;   /* ln 2 - ln2_high */
    const vec shifted = x * 0x1.71547652b82fep0 + round_shift; /* x / ln 2 */
    const vec n = shifted - round_shift;
    const vec r = (x - n * ln2_high) - n * ln2_low;
    vec p = splat(1.0 / 6227020800.0); /* 1/13! */
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    const vec scaled = (vec)((uvec)p + ((uvec)shifted << 52));
    const ivec underflow = (ivec)(x < -0x1.6232bdd7abcd2p+9); /* log(DBL_MIN) = -708.396... */
    return (vec)((ivec)scaled & ~underflow);
}

/* log(x) for normal x > 0 (for 0 a finite value below -708).  x = 2^e m, m in [sqrt(1/2), sqrt(2)),
 * log m = 2 atanh(s), s = (m - 1) / (m + 1); s^2 < 0.0295, so the series ends after s^21. */
FG_INLINE vec log_positive(vec x)
{
    const int64_t half_root = 0x3fe6a09e667f3bcdLL; /* bits of sqrt(1/2) */
    const ivec bits = (ivec)x;
    const ivec exponent = (bits - half_root) >> 52;
    const vec m = (vec)((uvec)bits - ((uvec)exponent << 52));
    const vec e = __builtin_convertvector(exponent, vec);
    const vec f = m - 1.0;
    const vec s = f / (m + 1.0);
    const vec s2 = s * s;
    vec p = splat(2.0 / 21);
    p = p * s2 + 2.0 / 19;
    p = p * s2 + 2.0 / 17;
    p = p * s2 + 2.0 / 15;
    p = p * s2 + 2.0 / 13;
    p = p * s2 + 2.0 / 11;
    p = p * s2 + 2.0 / 9;
    p = p * s2 + 2.0 / 7;
    p = p * s2 + 2.0 / 5;
    p = p * s2 + 2.0 / 3;
    /* 2 s = f - s f exactly, so that log m = f - s (f - s^2 p) keeps the leading term exact */
    const vec small = e * 0x1.a39ef35793c76p-33 - s * (f - s2 * p);
    return e * 0x1.62e42feep-1 + (f + small);
}

#endif
