"""Tolerances of the tests, each with its reason."""

from __future__ import annotations

# A few dozen operations in float64 / float32, on numbers of order 1.
ROUNDING = 1e-12
ROUNDING_SINGLE = 2e-5

# Coefficients printed with 16 digits, some of them of size 50, in sums of up to 7^4 products.
TABLEAU = 2e-12

# Difference between the slope of log error against log step and the order: the next term of the error is still seen.
SLOPE = 0.15

# Global error over the tolerance of a step: errors of some hundred steps add up, the flow may stretch them.
ERROR_PER_TOLERANCE = 10.0

# SciPy's DOP853 and Radau at rtol = atol = 1e-10 (their global error is some ten times that).
SCIPY = 1e-8

# Two solvers at 1e-10 in float64.
TIGHT = 1e-8

# Gradients of an adaptive solve at 1e-9 against the derivative of the exact solution.
EXACT_GRADIENT = 1e-6
