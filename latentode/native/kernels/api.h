// The entry points of the kernels: plain C, raw pointers, no dependence on Python or torch.
//
// All arrays are in the caller's memory. `double_precision` chooses the type of the states, inputs and parameters;
// times are always double. Strides count numbers, not bytes.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define LATENTODE_EXPORT __declspec(dllexport)
#else
#define LATENTODE_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum { LATENTODE_ABI_VERSION = 3, LATENTODE_MAX_LAYERS = 16, LATENTODE_MAX_STAGES = 16, LATENTODE_MAX_DEGREE = 8 };

enum latentode_activation {
    LATENTODE_TANH = 0,
    LATENTODE_SOFTPLUS = 1,
    LATENTODE_ELU = 2,
    LATENTODE_SILU = 3,
    LATENTODE_RELU = 4
};

// The values of latentode.solvers.Status.
enum latentode_status {
    LATENTODE_SUCCESS = 0,
    LATENTODE_TOO_MANY_STEPS = 1,
    LATENTODE_STEP_UNDERFLOW = 2,
    LATENTODE_NON_FINITE = 3
};

// dy/dt = net([y, t where time_input, inputs]), or speed * tanh(net(...)) with a gate.
typedef struct {
    int64_t dim;         // D, numbers of a state that move
    int64_t n_inputs;    // C, numbers of a series that the field sees beside
    int64_t n_layers;    // linear maps, the hidden ones followed by the activation
    int64_t time_input;  // 0 or 1
    int64_t activation;
    const int64_t* widths;       // (n_layers + 1): what the field sees, the hidden layers, D
    const void* const* weights;  // (n_layers) pointers to (n_out, n_in), contiguous
    const void* const* biases;   // (n_layers) pointers to (n_out), or NULL
    const void* speed;           // (D), or NULL for no gate
} latentode_field;

// An explicit Runge-Kutta method whose last stage is f(t + h, y(t + h)).
typedef struct {
    int64_t stages, degree;
    const double* nodes;         // (stages)
    const double* weights;       // (stages, stages); the last row gives y(t + h)
    const double* error;         // (stages), or NULL
    const double* interpolant;   // (stages, degree): of theta^1 .. theta^degree
} latentode_method;

typedef struct {
    int64_t adaptive;
    double rtol, atol, order, alpha, beta, gamma, safety, smallest_factor, largest_factor;
    double first_step;  // NaN: find it
    double min_step, max_step, step_size;
    int64_t max_steps;
} latentode_controller;

typedef struct {
    int64_t double_precision, n_threads;
    int64_t n, n_times;
    int64_t n_still;  // columns of a state behind the D that move; they never change
    latentode_field field;
    latentode_method method;
    latentode_controller controller;
    const void* y0;  // (n, D + n_still)
    int64_t y0_stride;
    const double* t0;  // (n)
    int64_t t0_stride;
    const double* times;  // (n, n_times), in any order, before and after t0; NaN asks nothing
    int64_t times_stride, time_stride;
    const void* inputs;  // (n, C)
    int64_t inputs_stride;
    // results
    void* y;  // (n, n_times, D + n_still), contiguous
    int64_t *status, *n_steps, *n_accepted, *n_evals;  // (n)
    int64_t* n_evals_backward;                         // (n), those that the adjoint will take
    double* t_reached;                                 // (n)
} latentode_solve;

// Cotangents; those that are NULL are not wanted. All results are written, not added to.
typedef struct {
    const void* of_y;  // (n, n_times, D + n_still), contiguous
    void* of_y0;       // (n, D + n_still), contiguous
    double* of_t0;     // (n), and with it
    double* of_times;  // (n, n_times), contiguous
    void* of_inputs;   // (n, C), contiguous
    void* const* of_weights;
    void* const* of_biases;
    void* of_speed;
} latentode_cotangents;

// The accepted steps of a solve, for its gradient.
typedef struct latentode_steps latentode_steps;

LATENTODE_EXPORT int latentode_abi_version(void);

// "portable", "avx2" or "avx512": what this processor runs, or what the environment variable LATENTODE_ISA asks for.
LATENTODE_EXPORT const char* latentode_isa(void);

// The entry GOMP_parallel of an OpenMP whose threads the kernels shall run on, in place of their own.
LATENTODE_EXPORT void latentode_share_threads(void* parallel_region);

// What may come in the place of a number of series.
enum latentode_refusal { LATENTODE_NO_MEMORY = -1, LATENTODE_INFINITE_TIMES = -2 };

// Returns how many series could not be solved, or a refusal: then nothing is. A query time must not be infinite, and
// t0 must be finite. Where `steps` is not NULL the accepted steps are kept there.
LATENTODE_EXPORT int64_t latentode_solve_forward(const latentode_solve* problem, latentode_steps** steps);

// The discrete adjoint of a solve whose arguments have not changed since. Returns 0 or LATENTODE_NO_MEMORY.
LATENTODE_EXPORT int64_t latentode_solve_backward(
    const latentode_solve* problem, const latentode_steps* steps, const latentode_cotangents* cotangents);

LATENTODE_EXPORT void latentode_free_steps(latentode_steps* steps);

// An elementary function of `n` numbers, for tests: an activation, then 100 exp, 101 log (double), 102 expm1.
LATENTODE_EXPORT int latentode_evaluate(int64_t function, int64_t double_precision, const void* x, void* y, int64_t n);

#ifdef __cplusplus
}
#endif
