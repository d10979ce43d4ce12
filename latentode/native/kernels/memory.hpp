// Memory that the kernels are given. Plain inline code of the baseline instruction set and of none of its own:
// included inside the namespace of an instruction set.

constexpr size_t ALIGNMENT = 64;

// Cuts arrays out of a block; without a block it counts how large it must be.
struct Carver {
    char* block;
    size_t used;

    template <class X>
    X* take(size_t n) {
        const size_t begin = used;
        used += (n * sizeof(X) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        return block ? (X*)(block + begin) : nullptr;
    }
};

INLINE int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

template <class X>
INLINE void clear(X* x, size_t n) {
    if (n) __builtin_memset((void*)x, 0, n * sizeof(X));  // x may be null where there is nothing
}
