"""Tolerances of the test-suite: every one named, every one with the reason for its size.

A tolerance states what is promised, or what double precision can give; it is never fitted to what a run gave.
"""

from __future__ import annotations

import numpy as np

EPS = float(np.finfo(np.float64).eps)

# -- promised by the numerical contract ------------------------------------------------------------

# log p(x) against longdouble, from the stored parameters: absolute part, plus so many roundings of the
# value itself.
SCORE_ABSOLUTE = 1e-8
SCORE_ROUNDINGS = 8

# One EM step against the longdouble step, whitened by the reference (DESIGN: second look after the M-step).
STEP_WHITENED = 1e-10

# What the same test lets pass: it bounds the M-step too, so moments may lose the 1e-9 that scores may.
STEP_EXPANSION = 1e-9

# Log-likelihood of a fit against mclust's: both iterate until the last digits stand, the optimum is regular.
MCLUST_LOG_LIKELIHOOD = 1e-6
# BIC is twice the log-likelihood plus an exact term.
MCLUST_BIC = 2 * MCLUST_LOG_LIKELIHOOD

# Mean log-likelihood after 20 iterations from one start, against scikit-learn: relative to max(1, |ll|).
BOUND_PARITY = 1e-9

# -- ordinary data: a few units of spread, condition below 1e3 -------------------------------------

# A pair of block and component keeps to the expansion only while eps * a <= 1e-9, a bounding the exponent's
# terms before they cancel. On ordinary data with D <= 64 a stays below 1e5, and rounding errors of either
# sign mostly cancel: 1e-10 leaves room for 4 * 1e5 eps and no room for a polynomial with float32 accuracy.
ROW_LOG_DENSITY = 1e-10
# Responsibilities lie in [0, 1] and move by r (1 - r) <= 1/4 of an error of the exponent.
ROW_RESPONSIBILITY = 1e-10
# Rows of responsibilities sum to one: K roundings.
ROW_SUM = 1e-13

# Parameters of one M-step on ordinary data: the errors of the responsibilities, averaged over the rows.
STEP_PARAMETERS = 1e-10
# Sums over rows relative to their size: errors of rows have either sign.
SUM_RELATIVE = 1e-12

# -- several iterations ----------------------------------------------------------------------------

# Two correct EM runs part by rounding, which EM's slowest direction amplifies by at most 1 / (1 - rate): a
# factor of 1e2 to 1e3 on the well-separated sets used here, on the 1e-13 or so of one step in double
# precision. scikit-learn's own expansion (X^2 P - 2 X m P + m^2 P) costs another digit or two.
PARITY_PARAMETERS = 1e-8
PARITY_ROWS = 1e-7
PARITY_CRITERION_RELATIVE = 1e-9

# Where variances are reg_covar = 1e-6 beside others of 1 (constant or duplicate columns), relative errors of
# the smallest are eps * 1e6 per step, and exponents divide by them: 2e-9 over ten steps, and some ten times
# that, as LAPACK's kernels round one way or the other (1.05e-8 seen with one of them).
PARITY_NEARLY_SINGULAR = 3e-8

# -- invariances -----------------------------------------------------------------------------------

# Weights as repeats, permuted rows: other orders of summation, so rounding only (a few iterations from one
# start).
SAME_FIT = 1e-10
# Affine maps: the data themselves are rounded when they are mapped (map of condition <= 1e2 on unit data).
AFFINE = 1e-9
# Instruction sets: other lengths of vectors, so other orders of summation; the same polynomials.
INSTRUCTION_SETS = 1e-11
# A log-likelihood may fall by the rounding of its own sum, never by more: relative to max(1, |mean|).
MONOTONE = 1e-12

# -- exp and log -----------------------------------------------------------------------------------

# The package's polynomials against mpmath, in units in the last place of the exact result.
EXP_ULP = 2.0
LOG_ULP = 2.0

# -- seams -----------------------------------------------------------------------------------------

# Ctrl-C has to return within a second (issue); the slack is for a machine that is busy with other tests.
INTERRUPT_SECONDS = 1.0
# Fitting must not copy its input: a copy would take 1.0 of the input's bytes.
COPY_FRACTION = 0.3
# Anonymous memory of a fit above the data, whatever the number of rows.
ANONYMOUS_BYTES = 100 * 2**20

# -- pruned passes ---------------------------------------------------------------------------------

# What is skipped is at most exp(-33) = 4.7e-15 of a component; the rest is the order of the sums.
PRUNED = 1e-13

# -- single precision ------------------------------------------------------------------------------

# Mean log-likelihood of a fit in float32 arithmetic against float64: relative to max(1, |ll|).
SINGLE_BOUND = 1e-6
# One step in float32, whitened: the contract lets moments lose what is left of 24 bits after 2e-3 / 2^-24 of
# them cancelled, by a bound of which a tenth is seen.
SINGLE_STEP = 1e-4
# The package's polynomials for float32, in units in the last place of the exact result.
SINGLE_EXP_ULP = 2.0
SINGLE_LOG_ULP = 2.0
