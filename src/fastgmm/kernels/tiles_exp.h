/* exp and log on vectors of doubles.  They are ours so that every platform runs the same algorithm; their errors (a
 * few units in the last place) are tested against mpmath. */
#ifndef FASTGMM_TILES_EXP_H
#define FASTGMM_TILES_EXP_H

#include "tiles_vector.h"

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
