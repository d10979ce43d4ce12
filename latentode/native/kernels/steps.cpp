// Chunks of memory for the steps of solves; some stay with the process, so that the next solve finds them warm.

#include "steps.hpp"

#include <stdlib.h>

#include <atomic>

namespace latentode {
namespace {

constexpr int64_t HEADER = 64;  // of a chunk, and what its pieces are aligned to
constexpr int64_t CHUNK = 1 << 18, MOST_SPARE_CHUNKS = 64;
constexpr int64_t MOST_SPARE_BYTES = 16 << 20;  // of what can be computed again, in all solves together

std::atomic<int64_t> spare_bytes{0};

// Chunks of the usual size that nobody uses. Who finds it taken does without: a lock would outlive a fork.
std::atomic_flag taken = ATOMIC_FLAG_INIT;
Chunk* unused = nullptr;
int64_t n_unused = 0;

Chunk* reused() {
    if (taken.test_and_set(std::memory_order_acquire)) return nullptr;
    Chunk* chunk = unused;
    if (chunk) {
        unused = chunk->before;
        --n_unused;
    }
    taken.clear(std::memory_order_release);
    return chunk;
}

bool kept_for_reuse(Chunk* chunk) {
    if (chunk->size != CHUNK || taken.test_and_set(std::memory_order_acquire)) return false;
    const bool room = n_unused < MOST_SPARE_CHUNKS;
    if (room) {
        chunk->before = unused;
        unused = chunk;
        ++n_unused;
    }
    taken.clear(std::memory_order_release);
    return room;
}

Chunk* new_chunk(int64_t size) {
    Chunk* chunk = size == CHUNK ? reused() : nullptr;
    if (!chunk) {
        void* memory = malloc((size_t)(size + HEADER));
        if (!memory) return nullptr;
        chunk = (Chunk*)(((uintptr_t)memory + HEADER - 1) / HEADER * HEADER);
        chunk->memory = memory;
    }
    chunk->before = nullptr, chunk->used = HEADER, chunk->size = size;
    return chunk;
}

int64_t size_of_next(const Store& store, int64_t bytes) {
    if (store.last && store.last->used + bytes <= store.last->size) return 0;
    return bytes + HEADER <= CHUNK ? CHUNK : bytes + HEADER;
}

}  // namespace

void* place_in(Store& store, int64_t bytes) {
    if (const int64_t size = size_of_next(store, bytes)) {
        Chunk* chunk = new_chunk(size);
        if (!chunk) return nullptr;
        chunk->before = store.last;
        store.last = chunk;
    }
    return (char*)store.last + store.last->used;
}

void* spare_place_in(Store& store, int64_t bytes) {
    const int64_t size = size_of_next(store, bytes);
    if (size && spare_bytes.fetch_add(size) + size > MOST_SPARE_BYTES) {
        spare_bytes.fetch_sub(size);
        return nullptr;
    }
    void* place = place_in(store, bytes);
    if (size && !place) spare_bytes.fetch_sub(size);
    return place;
}

void free_store(Store& store) {
    for (Chunk* chunk = store.last; chunk;) {
        Chunk* before = chunk->before;
        if (!kept_for_reuse(chunk)) free(chunk->memory);
        chunk = before;
    }
    store.last = nullptr;
}

void free_spare_store(Store& store) {
    int64_t size = 0;
    for (Chunk* chunk = store.last; chunk; chunk = chunk->before) size += chunk->size;
    free_store(store);
    spare_bytes.fetch_sub(size);
}

}  // namespace latentode
