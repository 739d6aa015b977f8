/* x86-64-v3 in single precision: 8 lanes, the tiles of tiles_v3.c. */
#define FG_SINGLE 1
#define FG_NAME "x86-64-v3"
#define FG_LANES 8
#define FG_SCORE_VECTORS 3
#define FG_DOT_ROWS 2
#define FG_TABLE fg_kernels_v3_single
#define FG_DOUBLE_TABLE fg_kernels_v3
#include "tiles.h"
