// The accepted steps of a range of series, in the order in which they were taken; memory that grows.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace latentode {

struct Legs;

// Pieces of memory, filled one behind the other in chunks that never move.
struct Chunk {
    void* memory;  // what malloc gave
    Chunk* before;
    int64_t used, size;
};

struct Store {
    Chunk* last = nullptr;
};

// `bytes` (a multiple of 64) that the next call returns again, unless `keep` keeps them; aligned to 64. NULL where memory
// ran out. Defined in steps.cpp, compiled for the baseline.
void* place_in(Store& store, int64_t bytes);

// The same for what can be computed again: NULL also where all solves together hold enough of it.
void* spare_place_in(Store& store, int64_t bytes);

void free_store(Store& store);
void free_spare_store(Store& store);

static inline void keep(Store& store, int64_t bytes) { store.last->used += bytes; }

struct Range {
    int64_t first, end;
    Store steps, evaluations;
    void* last;  // the last step; each knows the one before
};

}  // namespace latentode

struct latentode_steps {
    int64_t n_ranges;
    latentode::Range* ranges;
    uint8_t* started;  // of each series, whether it had a finite slope at t0
    latentode::Legs* legs;  // what the solve was divided into; NULL where every series was one
};
