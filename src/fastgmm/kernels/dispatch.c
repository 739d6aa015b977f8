/* Which kernel tables this processor can run.
 *
 * The x86-64 levels are those of the psABI: v3 = AVX2, FMA, BMI1/2, F16C, LZCNT, MOVBE; v4 = AVX-512 F, BW, CD, DQ, VL.
 * We ask the processor itself (CPUID) and the operating system (XGETBV: does it save the wide registers?), because the
 * compilers' own tests need a run-time library that not every platform links.
 */
#include "dispatch.h"

extern const fg_kernels fg_kernels_base;

#ifdef FASTGMM_X86_64

extern const fg_kernels fg_kernels_v3, fg_kernels_v4;

#if defined(_MSC_VER)
#include <intrin.h>
static void cpuid(int leaf, int subleaf, unsigned r[4]) { __cpuidex((int *)r, leaf, subleaf); }
#else
#include <cpuid.h>
static void cpuid(int leaf, int subleaf, unsigned r[4]) { __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]); }
#endif

static unsigned saved_state(void)
{
#if defined(_MSC_VER) && !defined(__clang__)
    return (unsigned)_xgetbv(0);
#else
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

static int has(unsigned word, int bit) { return (int)((word >> bit) & 1u); }

static int level(void)
{
    enum { EAX, EBX, ECX, EDX };
    unsigned basic[4], one[4], seven[4], extended_max[4], extended[4];
    cpuid(0, 0, basic);
    if (basic[EAX] < 7)
        return 2;
    cpuid(1, 0, one);
    cpuid(7, 0, seven);
    cpuid((int)0x80000000u, 0, extended_max);
    if (extended_max[EAX] < 0x80000001u)
        return 2;
    cpuid((int)0x80000001u, 0, extended);
    if (!has(one[ECX], 27)) /* OSXSAVE: XGETBV may be asked */
        return 2;
    const unsigned saved = saved_state();
    const int v3 = has(one[ECX], 12) /* FMA */ && has(one[ECX], 22) /* MOVBE */ && has(one[ECX], 28) /* AVX */ &&
                   has(one[ECX], 29) /* F16C */ && has(seven[EBX], 3) /* BMI1 */ && has(seven[EBX], 5) /* AVX2 */ &&
                   has(seven[EBX], 8) /* BMI2 */ && has(extended[ECX], 5) /* LZCNT */ &&
                   (saved & 0x6u) == 0x6u; /* XMM and YMM are saved */
    if (!v3)
        return 2;
    const int v4 = has(seven[EBX], 16) /* F */ && has(seven[EBX], 17) /* DQ */ && has(seven[EBX], 28) /* CD */ &&
                   has(seven[EBX], 30) /* BW */ && has(seven[EBX], 31) /* VL */ &&
                   (saved & 0xe6u) == 0xe6u; /* masks and ZMM too */
    return v4 ? 4 : 3;
}

int fg_available(const fg_kernels *tables[], int capacity)
{
    const int highest = level();
    int n = 0;
    if (n < capacity)
        tables[n++] = &fg_kernels_base;
    if (highest >= 3 && n < capacity)
        tables[n++] = &fg_kernels_v3;
    if (highest >= 4 && n < capacity)
        tables[n++] = &fg_kernels_v4;
    return n;
}

#else

int fg_available(const fg_kernels *tables[], int capacity)
{
    if (capacity < 1)
        return 0;
    tables[0] = &fg_kernels_base;
    return 1;
}

#endif
