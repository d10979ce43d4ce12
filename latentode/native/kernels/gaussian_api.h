/* The fused Gaussian log likelihood's door: one struct, plain C. All arrays are contiguous, of float, or of double where `is_double`. */
#pragma once
#include "api.h"

typedef struct latentode_gaussian {
    int32_t is_double;
    int32_t backward; /* d_params and d_noise are wanted, and log_lik is not */
    int64_t n_samples, n_series, n_times, n_targets;
    const void* params;  /* (K, N, T, D), the means */
    const void* values;  /* (N, T, D) */
    const uint8_t* mask; /* (N, T, D), 1 = observed */
    const void* noise;   /* (D), standard deviations */
    void* log_lik;       /* (K, N), sums over the observed cells */
    const void* d_log_lik;
    void *d_params, *d_noise; /* as params and noise */
} latentode_gaussian;

#ifdef __cplusplus
extern "C" {
#endif

/* The log likelihood, or the cotangents of means and noise from that of it. All results are written, not added to. Returns 0, or 1 where memory
 * ran out. */
LATENTODE_EXPORT int latentode_run_gaussian(const latentode_gaussian* problem);

#ifdef __cplusplus
}
#endif
