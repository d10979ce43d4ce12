// What every instruction set offers, and what the dispatcher calls.
#pragma once

#include "api.h"
#include "dense_api.h"
#include "gru_api.h"
#include "steps.hpp"

namespace latentode {

// Kernels for one type of numbers. `shared` is memory for packed weights, `scratch` that of one thread.
struct TypedKernels {
    size_t (*shared_bytes)(const latentode_field*, int with_transposed);
    void (*pack)(const latentode_field*, int with_transposed, void* shared);
    size_t (*forward_bytes)(const latentode_solve*);
    int (*forward)(const latentode_solve*, void* shared, void* scratch, Range*, int keep, uint8_t* started);
    size_t (*backward_bytes)(const latentode_solve*);
    void (*backward)(
        const latentode_solve*, const latentode_steps*, const Range*, const latentode_cotangents*, void* shared, void* scratch,
        void* of_first);
    void (*collect)(
        const latentode_solve*, const latentode_cotangents*, void* shared, void* const* scratch, int n_threads, double* sums);
    void (*evaluate)(int64_t function, const void* from, void* to, int64_t n);
    void (*gru_plan)(latentode_gru*);
    void (*gru_forward)(const latentode_gru*, int thread);
    void (*gru_backward)(const latentode_gru*, int thread);
    void (*gru_collect)(const latentode_gru*);
    size_t (*dense_bytes)(const latentode_dense*);  // of the memory that the following work in
    void (*dense_pack)(const latentode_dense*, void* memory);
    void (*dense_run)(const latentode_dense*, void* memory, int thread);
    void (*dense_collect)(const latentode_dense*, void* memory);
};

struct Kernels {
    TypedKernels of_float, of_double;
    void (*log)(const double* from, double* to, int64_t n);
    int lanes;  // of floats
};

namespace portable {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

}  // namespace latentode
