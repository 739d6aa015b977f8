/* x86-64-v4: AVX-512, 8 lanes, 32 registers. */
#define FG_NAME "x86-64-v4"
#define FG_LANES 8
#define FG_SCORE_VECTORS 4 /* 4 x 4 accumulators: 16 FMAs for 8 loads */
#define FG_DOT_ROWS 4
#define FG_TABLE fg_kernels_v4
#define FG_SINGLE_TABLE fg_kernels_v4_single
#include "tiles.h"
