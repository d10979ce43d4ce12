/* The fused perceptron's door: one struct, plain C. Strides and padding are the kernels' own affair: all arrays are contiguous, of float, or of
 * double where `is_double`. */
#pragma once
#include "api.h"

typedef struct latentode_dense {
    int32_t is_double, n_threads; /* 1 or more */
    int32_t activation;           /* of enum latentode_activation, after every linear map but the last */
    int32_t n_layers;             /* linear maps, 1 to LATENTODE_MAX_LAYERS */
    int32_t backward;             /* the cotangents are wanted, and y is not */
    int64_t n_rows;
    const int64_t* widths;      /* (n_layers + 1) */
    const void* const* weights; /* (n_layers) pointers to (n_out, n_in) */
    const void* const* biases;  /* (n_layers) pointers to (n_out), or NULL */
    const void* x;              /* (n_rows, widths[0]) */
    void* y;                    /* (n_rows, widths[n_layers]), where `backward` is 0 */
    const void* d_y;            /* as y */
    void* d_x;                                /* as x, or NULL where it is not wanted */
    void *const *d_weights, *const *d_biases; /* as weights and biases, or both NULL */
} latentode_dense;

#ifdef __cplusplus
extern "C" {
#endif

/* y of x; or the cotangents of x, weights and biases from that of y, for which hidden layers are computed once more. All results are written,
 * not added to. Returns 0, or 1 where memory ran out. */
LATENTODE_EXPORT int latentode_run_dense(const latentode_dense* problem);

#ifdef __cplusplus
}
#endif
