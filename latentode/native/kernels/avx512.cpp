// The kernels for processors with AVX-512 (F, DQ, BW, VL).
#if defined(LATENTODE_X86)
#define LATENTODE_ISA avx512
#define LATENTODE_LANE_BYTES 64
#include "kernels.inc"
#endif
