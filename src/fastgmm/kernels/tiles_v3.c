/* x86-64-v3: AVX2 and FMA, 4 lanes, 16 registers. */
#define FG_NAME "x86-64-v3"
#define FG_LANES 4
#define FG_SCORE_VECTORS 3 /* 4 x 3 accumulators, 3 rows of phi, 1 broadcast: 16 registers */
#define FG_DOT_ROWS 2      /* 2 x 4 accumulators hide the FMA latency (4 cycles, 2 a cycle) */
#define FG_TABLE fg_kernels_v3
#define FG_SINGLE_TABLE fg_kernels_v3_single
#include "tiles.h"
