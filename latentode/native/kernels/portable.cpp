// The kernels for any processor.
#define LATENTODE_ISA portable
#define LATENTODE_LANE_BYTES 16
#include "kernels.inc"
