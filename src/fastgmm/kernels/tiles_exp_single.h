/* exp and log on vectors of floats: the algorithms of tiles_exp.h with as many terms as 24 bits need. */
#ifndef FASTGMM_TILES_EXP_SINGLE_H
#define FASTGMM_TILES_EXP_SINGLE_H

#include "tiles_vector.h"

/* exp(x) for x <= 0 (NaN stays NaN).  The remainder r^8/8! < 6e-9 lies below half a unit in the last place.
 * Below exp(-64) = 1.6e-28 the result is 0.  A component whose responsibilities are all that small has no weight
 * left, and the products of larger ones with weights and features stay normal numbers: in a vector of sixteen one
 * subnormal is not rare, and it costs hundreds of cycles. */
FG_INLINE vec exp_nonpositive(vec x)
{
    const float round_shift = 0x1.8p23f;       /* adding it rounds to an integer, kept in the low bits */
    const float ln2_high = 0x1.63p-1f;         /* 9 bits: n * ln2_high is exact */
    const float ln2_low = -0x1.bd0106p-13f;    /* ln 2 - ln2_high */
    const vec shifted = x * 0x1.715476p0f + round_shift; /* x / ln 2 */
    const vec n = shifted - round_shift;
    const vec r = (x - n * ln2_high) - n * ln2_low;
    vec p = splat(1.0f / 5040.0f); /* 1/7! */
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const vec scaled = (vec)((uvec)p + ((uvec)shifted << 23));
    const ivec underflow = (ivec)(x < -64.0f);
    return (vec)((ivec)scaled & ~underflow);
}

/* log(x) for normal x > 0 (for 0 a finite value below -87).  s^2 < 0.0295, so the series ends after s^9. */
FG_INLINE vec log_positive(vec x)
{
    const int32_t half_root = 0x3f3504f3; /* bits of sqrt(1/2) */
    const ivec as_bits = (ivec)x;
    const ivec exponent = (as_bits - half_root) >> 23;
    const vec m = (vec)((uvec)as_bits - ((uvec)exponent << 23));
    const vec e = __builtin_convertvector(exponent, vec);
    const vec f = m - 1.0f;
    const vec s = f / (m + 1.0f);
    const vec s2 = s * s;
    vec p = splat(2.0f / 9);
    p = p * s2 + 2.0f / 7;
    p = p * s2 + 2.0f / 5;
    p = p * s2 + 2.0f / 3;
    /* 2 s = f - s f exactly, so that log m = f - s (f - s^2 p) keeps the leading term exact */
    const vec small = e * -0x1.bd0106p-13f - s * (f - s2 * p);
    return e * 0x1.63p-1f + (f + small);
}

#endif
