/* The fused recurrent encoder's door: one struct, plain C. Counts are numbers, not bytes; strides are in numbers of the array's own type.
 * Real arrays are float, or double where `is_double`. Contiguous: lengths, order, weights, states and all cotangents. */
#pragma once
#include "api.h"

typedef struct latentode_gru {
    int32_t is_double;
    int32_t backwards;  /* rows are read from the last to the first */
    int32_t gap_input;  /* the time since the row read before is an input of the cell */
    int32_t skip_empty; /* a row without an observed cell leaves the state as it is */
    int32_t n_threads;  /* 1 to 64 */
    int32_t keep;       /* forward fills `saved` for a backward call */

    int64_t n_series, n_targets, hidden;
    int64_t flow_steps; /* between two rows the state takes these many steps of dh/dt = rate (tanh(MLP(h)) - h); 0: it rests */
    int64_t field;      /* P, the width of its hidden layer */
    const double *times; /* (N, T) */
    const void *values;  /* (N, T, D) */
    const uint8_t *mask; /* (N, T, D), 1 = observed */
    int64_t times_strides[2], values_strides[3], mask_strides[3];
    const int64_t *lengths; /* (N) */
    const int64_t *order;   /* (N), the series by falling length: lanes of one block have like lengths */

    const void *weight_ih, *weight_hh, *bias_ih, *bias_hh; /* (3H, F), (3H, H), (3H), (3H): torch.nn.GRU's */
    const void *rate, *flow_weight_in, *flow_bias_in, *flow_weight_out, *flow_bias_out; /* (H), (P, H), (P), (H, P), (H) */
    void *states; /* (N, H), after the last row of each series */

    const void *d_states; /* (N, H) */
    void *d_weight_ih, *d_weight_hh, *d_bias_ih, *d_bias_hh; /* set to 0 by the caller, as the following */
    void *d_rate, *d_flow_weight_in, *d_flow_bias_in, *d_flow_weight_out, *d_flow_bias_out;

    void *saved, *scratch;                              /* the caller's, of these many bytes: */
    int64_t saved_bytes, forward_bytes, backward_bytes; /* written by latentode_gru_plan */
} latentode_gru;

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the sizes of the memory; everything before `times_strides`, `lengths` and `order` must be set. */
LATENTODE_EXPORT void latentode_gru_plan(latentode_gru* problem);

LATENTODE_EXPORT void latentode_gru_forward(const latentode_gru* problem);

/* Of a forward call with `keep` whose arguments have not changed since. */
LATENTODE_EXPORT void latentode_gru_backward(const latentode_gru* problem);

#ifdef __cplusplus
}
#endif
