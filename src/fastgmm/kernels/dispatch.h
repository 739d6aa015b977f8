/* Choice of the instruction set, made once at import. */
#ifndef FASTGMM_DISPATCH_H
#define FASTGMM_DISPATCH_H
#include "job.h"

/* Kernel tables this binary holds and this processor can run, slowest first; returns how many. */
int fg_available(const fg_kernels *tables[], int capacity);

#endif
