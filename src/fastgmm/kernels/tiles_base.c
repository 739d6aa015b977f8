/* The base instruction set: x86-64-v2 (2 lanes, no FMA), ARM64 NEON, or whatever two doubles become elsewhere. */
#if defined(__x86_64__) || defined(_M_X64)
#define FG_NAME "x86-64-v2"
#define FG_SCORE_VECTORS 3 /* 4 x 3 accumulators of 16 registers */
#define FG_DOT_ROWS 2
#elif defined(__aarch64__) || defined(_M_ARM64)
#define FG_NAME "arm64-neon"
#define FG_SCORE_VECTORS 4 /* 4 x 4 accumulators of 32 registers */
#define FG_DOT_ROWS 4
#else
#define FG_NAME "generic"
#define FG_SCORE_VECTORS 3
#define FG_DOT_ROWS 2
#endif
#define FG_LANES 2
#define FG_TABLE fg_kernels_base
#define FG_SINGLE_TABLE fg_kernels_base_single
#include "tiles.h"
