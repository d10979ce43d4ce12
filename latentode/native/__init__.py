"""The fused engine: solves, encoders and decoders in compiled kernels, for those they know; torch can do all of it too.

The kernels are plain C entry points in one shared library, called by ctypes: it needs nothing to build but a compiler,
releases Python's lock during every call, and one call does a whole solve, so that its own microseconds do not count.
"""

from latentode.native.perceptron import Perceptron

__all__ = ["Perceptron"]
