/* Peak arithmetic and memory rates of one core, to be called from several threads at once.
 *
 * Each flop_* function keeps enough independent accumulators in registers that neither the latency of the arithmetic
 * nor memory limits it, and returns the floating-point operations it executed. `sink` keeps the result alive. The
 * start values make every accumulator converge to 1, so that no operand is ever subnormal, infinite or NaN.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

typedef double v2 __attribute__((vector_size(16)));
typedef double v4 __attribute__((vector_size(32)));
typedef double v8 __attribute__((vector_size(64)));

/* BODY: n_acc accumulators of type vec; a <- a * m + (1 - m), contracted to one FMA where the target has one. */
#define BODY(vec, n_acc)                                                   \
    vec acc[n_acc];                                                        \
    vec multiplier = (vec){0} + 0.5, addend = (vec){0} + 0.5;              \
    __asm__ volatile("" : "+x"(multiplier), "+x"(addend));                 \
    for (int i = 0; i < n_acc; i++) acc[i] = (vec){0} + (1.0 + i);         \
    for (int64_t step = 0; step < steps; step++) {                         \
        _Pragma("GCC unroll 32") for (int i = 0; i < n_acc; i++)           \
            acc[i] = acc[i] * multiplier + addend;                         \
    }                                                                      \
    vec total = acc[0];                                                    \
    for (int i = 1; i < n_acc; i++) total += acc[i];                       \
    *sink = total[0];                                                      \
    return (double)steps * n_acc * (sizeof(vec) / sizeof(double)) * 2.0

#if defined(__x86_64__)
__attribute__((target("arch=x86-64-v2"))) EXPORT double flop_v2(int64_t steps, double *sink) { BODY(v2, 12); }
__attribute__((target("arch=x86-64-v3"))) EXPORT double flop_v3(int64_t steps, double *sink) { BODY(v4, 12); }
__attribute__((target("arch=x86-64-v4"))) EXPORT double flop_v4(int64_t steps, double *sink) { BODY(v8, 24); }
EXPORT int has_v2(void) { return __builtin_cpu_supports("sse4.2") != 0; }
EXPORT int has_v3(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
EXPORT int has_v4(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"); }
#else
#undef BODY
#define BODY(vec, n_acc)                                                   \
    vec acc[n_acc];                                                        \
    vec multiplier = (vec){0} + 0.5, addend = (vec){0} + 0.5;              \
    __asm__ volatile("" : "+w"(multiplier), "+w"(addend));                 \
    for (int i = 0; i < n_acc; i++) acc[i] = (vec){0} + (1.0 + i);         \
    for (int64_t step = 0; step < steps; step++) {                         \
        _Pragma("GCC unroll 32") for (int i = 0; i < n_acc; i++)           \
            acc[i] = acc[i] * multiplier + addend;                         \
    }                                                                      \
    vec total = acc[0];                                                    \
    for (int i = 1; i < n_acc; i++) total += acc[i];                       \
    *sink = total[0];                                                      \
    return (double)steps * n_acc * (sizeof(vec) / sizeof(double)) * 2.0
EXPORT double flop_base(int64_t steps, double *sink) { BODY(v2, 24); }
EXPORT int has_base(void) { return 1; }
#endif

/* Sum of an array: what reading memory costs and nothing else. Returns the bytes read. */
EXPORT double read_memory(const double *values, int64_t count, double *sink) {
    v4 acc[8] = {{0}};
    int64_t i = 0;
    for (; i + 32 <= count; i += 32)
        for (int lane = 0; lane < 8; lane++) {
            v4 row;
            __builtin_memcpy(&row, values + i + 4 * lane, sizeof row);
            acc[lane] += row;
        }
    for (int lane = 1; lane < 8; lane++) acc[0] += acc[lane];
    *sink = acc[0][0] + acc[0][1] + acc[0][2] + acc[0][3];
    return (double)i * sizeof(double);
}
