/* x86-64-v4 in single precision: 16 lanes. */
#define FG_SINGLE 1
#define FG_NAME "x86-64-v4"
#define FG_LANES 16
#define FG_SCORE_VECTORS 6 /* 4 x 6 accumulators, 6 rows of phi, 1 broadcast: 31 registers */
#define FG_DOT_ROWS 4
#define FG_TABLE fg_kernels_v4_single
#define FG_DOUBLE_TABLE fg_kernels_v4
#include "tiles.h"
