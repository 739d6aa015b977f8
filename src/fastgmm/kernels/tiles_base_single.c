/* The base instruction set in single precision: twice the lanes of tiles_base.c, the same tiles. */
#define FG_SINGLE 1
#if defined(__x86_64__) || defined(_M_X64)
#define FG_NAME "x86-64-v2"
#define FG_SCORE_VECTORS 3
#define FG_DOT_ROWS 2
#elif defined(__aarch64__) || defined(_M_ARM64)
#define FG_NAME "arm64-neon"
#define FG_SCORE_VECTORS 4
#define FG_DOT_ROWS 4
#else
#define FG_NAME "generic"
#define FG_SCORE_VECTORS 3
#define FG_DOT_ROWS 2
#endif
#define FG_LANES 4
#define FG_TABLE fg_kernels_base_single
#define FG_DOUBLE_TABLE fg_kernels_base
#include "tiles.h"
