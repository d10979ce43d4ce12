// The kernels for processors with AVX2 and FMA.
#if defined(LATENTODE_X86)
#define LATENTODE_ISA avx2
#define LATENTODE_LANE_BYTES 32
#include "kernels.inc"
#endif
