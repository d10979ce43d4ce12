// The entry points: they choose an instruction set, divide the series among threads, and find the memory.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "dense_api.h"
#include "legs.hpp"
#include "pool.hpp"
#include "steps.hpp"
#include "table.hpp"

namespace latentode {

namespace {

struct Choice {
    const char* name;
    const Kernels* kernels;
};

Choice choose() {
    const char* asked = getenv("LATENTODE_ISA");
    const bool any = !asked || !*asked;
#if defined(LATENTODE_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    if (avx512 && (any || !strcmp(asked, "avx512"))) return {"avx512", &avx512::kernels};
    if (avx2 && (any || strcmp(asked, "portable"))) return {"avx2", &avx2::kernels};
#else
    (void)any;
#endif
    return {"portable", &portable::kernels};
}

const Choice& chosen() {
    static const Choice choice = choose();
    return choice;
}

const TypedKernels& typed(int64_t double_precision) {
    const Kernels& kernels = *chosen().kernels;
    return double_precision ? kernels.of_double : kernels.of_float;
}

// A block of aligned memory that is kept by its thread for the next call, unless it is large.
class Kept {
   public:
    ~Kept() { free(block_); }
    void* of(size_t bytes) {
        if (bytes <= size_) return aligned(block_);
        free(block_);
        block_ = malloc(bytes + 64);  // as it is: what needs zeros clears it
        size_ = block_ ? bytes : 0;
        return block_ ? aligned(block_) : nullptr;
    }

    void done() {
        if (size_ < ((size_t)1 << 25)) return;
        free(block_);
        block_ = nullptr;
        size_ = 0;
    }

   private:
    static void* aligned(void* block) { return (void*)(((uintptr_t)block + 63) / 64 * 64); }
    void* block_ = nullptr;
    size_t size_ = 0;
};

size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Products of some 36 evaluations per series that are worth waking a thread for: a tenth of a millisecond. With less, two
// threads gain little where both are awake, and lose where one is not.
constexpr double PRODUCTS_PER_THREAD = 1.5e6;

// Threads worth waking, each with at least one full set of lanes; by the problem alone, as sums of gradients depend on it.
int64_t n_ranges_of(const latentode_solve& p) {
    const int64_t lanes = chosen().kernels->lanes / (p.double_precision ? 2 : 1);
    const int64_t sets = (p.n + lanes - 1) / lanes;
    double products = 0;
    for (int64_t l = 0; l < p.field.n_layers; ++l)
        products += 36.0 * (double)p.n * (double)(p.field.widths[l] + 1) * (double)p.field.widths[l + 1];
    const double worth = products / PRODUCTS_PER_THREAD;
    int64_t most = p.n_threads < 1 ? 1 : p.n_threads;
    if (worth < (double)most) most = worth < 1 ? 1 : (int64_t)worth;
    return sets < most ? (sets < 1 ? 1 : sets) : most;
}

struct Forward {
    const latentode_solve* problem;
    const TypedKernels* kernels;
    char *shared, *scratch;
    size_t scratch_bytes;
    latentode_steps* steps;
    bool keep;
    int failures[1024];
};

void forward_work(int thread, void* data) {
    Forward& f = *(Forward*)data;
    f.failures[thread] = f.kernels->forward(
        f.problem, f.shared, f.scratch + (size_t)thread * f.scratch_bytes, &f.steps->ranges[thread], f.keep, f.steps->started);
}

struct Backward {
    const latentode_solve* problem;
    const latentode_steps* steps;
    const latentode_cotangents* cotangents;
    const TypedKernels* kernels;
    char *shared, *scratch, *of_first;
    size_t scratch_bytes, first_bytes;  // of_first: bytes of one series
};

void backward_work(int thread, void* data) {
    Backward& b = *(Backward*)data;
    const Range& range = b.steps->ranges[thread];
    b.kernels->backward(
        b.problem, b.steps, &range, b.cotangents, b.shared, b.scratch + (size_t)thread * b.scratch_bytes,
        b.of_first + (size_t)range.first * b.first_bytes);
}

latentode_steps* new_steps(const latentode_solve& p, int64_t n_ranges) {
    auto* steps = (latentode_steps*)calloc(1, sizeof(latentode_steps));
    if (!steps) return nullptr;
    steps->n_ranges = n_ranges;
    steps->ranges = (Range*)calloc((size_t)n_ranges, sizeof(Range));
    steps->started = (uint8_t*)calloc((size_t)(p.n > 0 ? p.n : 1), 1);
    if (!steps->ranges || !steps->started) {
        latentode_free_steps(steps);
        return nullptr;
    }
    for (int64_t i = 0; i < n_ranges; ++i) {
        steps->ranges[i].first = p.n * i / n_ranges;
        steps->ranges[i].end = p.n * (i + 1) / n_ranges;
    }
    return steps;
}

// Every accepted step is evaluated once more by the adjoint, and t0.
void count_backward(const latentode_solve& p) {
    const int64_t per_step = p.method.stages - 1;
    for (int64_t i = 0; i < p.n; ++i) p.n_evals_backward[i] = per_step * p.n_accepted[i] + (p.n_evals[i] > 0);
}

constexpr int64_t NO_MEMORY = LATENTODE_NO_MEMORY;

int64_t failures(const latentode_solve& p) {
    int64_t failed = 0;
    for (int64_t i = 0; i < p.n; ++i) failed += p.status[i] > 0;
    return failed;
}

thread_local Kept kept;

// A solve whose query times are in its order. Whether there was memory.
bool solve_in_order(const latentode_solve* p, latentode_steps** kept_steps) {
    int64_t n_ranges = n_ranges_of(*p);
    if (n_ranges > 1024) n_ranges = 1024;
    latentode_steps* steps = new_steps(*p, n_ranges);
    if (!steps) return false;
    const TypedKernels& kernels = typed(p->double_precision);
    const size_t shared = rounded(kernels.shared_bytes(&p->field, 0)), each = rounded(kernels.forward_bytes(p));
    char* memory = (char*)kept.of(shared + each * (size_t)n_ranges);
    if (!memory) {
        latentode_free_steps(steps);
        return false;
    }
    kernels.pack(&p->field, 0, memory);
    Forward forward{p, &kernels, memory, memory + shared, each, steps, kept_steps != nullptr, {}};
    run_on_threads((int)n_ranges, forward_work, &forward);
    kept.done();
    int out_of_memory = 0;
    for (int64_t i = 0; i < n_ranges; ++i) out_of_memory |= forward.failures[i];
    if (out_of_memory || !kept_steps)
        latentode_free_steps(steps);
    else
        *kept_steps = steps;
    if (!out_of_memory) count_backward(*p);
    return !out_of_memory;
}

bool pull_back_in_order(const latentode_solve* p, const latentode_steps* steps, const latentode_cotangents* c) {
    const TypedKernels& kernels = typed(p->double_precision);
    const size_t n_ranges = (size_t)steps->n_ranges;
    const size_t shared = rounded(kernels.shared_bytes(&p->field, 1)), each = rounded(kernels.backward_bytes(p));
    const size_t first_bytes = (size_t)p->field.dim * (p->double_precision ? 8 : 4);
    size_t largest = 0;
    for (int64_t l = 0; l < p->field.n_layers; ++l) {
        const size_t size = (size_t)(p->field.widths[l] + 1) * (size_t)p->field.widths[l + 1] * sizeof(double);
        if (size > largest) largest = size;
    }
    const size_t firsts = rounded(first_bytes * (size_t)p->n);
    char* memory = (char*)kept.of(shared + each * n_ranges + firsts + rounded(largest));
    if (!memory) return false;
    char *scratch = memory + shared, *of_first = scratch + each * n_ranges, *sums = of_first + firsts;
    kernels.pack(&p->field, 1, memory);
    Backward backward{p, steps, c, &kernels, memory, scratch, of_first, each, first_bytes};
    run_on_threads((int)n_ranges, backward_work, &backward);
    if (c->of_weights) {
        void* places[1024];
        for (size_t i = 0; i < n_ranges; ++i) places[i] = scratch + i * each;
        kernels.collect(p, c, memory, places, (int)n_ranges, (double*)sums);
    }
    kept.done();
    return true;
}

struct Dense {
    const latentode_dense* problem;
    const TypedKernels* kernels;
    void* memory;
};

}  // namespace
}  // namespace latentode

using namespace latentode;

extern "C" {

int latentode_abi_version(void) { return LATENTODE_ABI_VERSION; }

const char* latentode_isa(void) { return chosen().name; }

void latentode_share_threads(void* parallel_region) { share_threads((ParallelRegion)parallel_region); }

int64_t latentode_solve_forward(const latentode_solve* p, latentode_steps** kept_steps) {
    const TimesFound times = inspect(*p);
    if (times.infinite) return LATENTODE_INFINITE_TIMES;
    if (times.in_order) return solve_in_order(p, kept_steps) ? failures(*p) : NO_MEMORY;
    Legs* legs = new_legs(*p);
    if (!legs) return NO_MEMORY;
    LegAnswers answers(*p, *legs);
    const bool solved = answers.has_memory() && solve_in_order(&answers.problem(), kept_steps);
    if (solved) answers.give(*p);
    if (solved && kept_steps)
        (*kept_steps)->legs = legs;
    else
        free_legs(legs);
    return solved ? failures(*p) : NO_MEMORY;
}

int64_t latentode_solve_backward(const latentode_solve* p, const latentode_steps* steps, const latentode_cotangents* c) {
    if (!steps->legs) return pull_back_in_order(p, steps, c) ? 0 : NO_MEMORY;
    LegCotangents legs(*p, *steps->legs, *c);
    if (!legs.has_memory() || !pull_back_in_order(&legs.problem(), steps, &legs.cotangents())) return NO_MEMORY;
    legs.give();
    return 0;
}

void latentode_free_steps(latentode_steps* steps) {
    if (!steps) return;
    for (int64_t i = 0; steps->ranges && i < steps->n_ranges; ++i) {
        free_store(steps->ranges[i].steps);
        free_spare_store(steps->ranges[i].evaluations);
    }
    free(steps->ranges);
    free(steps->started);
    free_legs(steps->legs);
    free(steps);
}

int latentode_evaluate(int64_t function, int64_t double_precision, const void* x, void* y, int64_t n) {
    if (function == 101)
        chosen().kernels->log((const double*)x, (double*)y, n);
    else
        typed(double_precision).evaluate(function, x, y, n);
    return 0;
}

void latentode_gru_plan(latentode_gru* p) { typed(p->is_double).gru_plan(p); }

void latentode_gru_forward(const latentode_gru* p) {
    run_on_threads(
        p->n_threads,
        [](int thread, void* data) {
            const auto* problem = (const latentode_gru*)data;
            typed(problem->is_double).gru_forward(problem, thread);
        },
        (void*)p);
}

void latentode_gru_backward(const latentode_gru* p) {
    run_on_threads(
        p->n_threads,
        [](int thread, void* data) {
            const auto* problem = (const latentode_gru*)data;
            typed(problem->is_double).gru_backward(problem, thread);
        },
        (void*)p);
    typed(p->is_double).gru_collect(p);
}

int latentode_run_dense(const latentode_dense* p) {
    const TypedKernels& kernels = typed(p->is_double);
    Dense dense{p, &kernels, kept.of(kernels.dense_bytes(p))};
    if (!dense.memory) return 1;
    kernels.dense_pack(p, dense.memory);
    run_on_threads(
        p->n_threads,
        [](int thread, void* data) {
            const auto* of = (const Dense*)data;
            of->kernels->dense_run(of->problem, of->memory, thread);
        },
        &dense);
    kernels.dense_collect(p, dense.memory);
    kept.done();
    return 0;
}
}
