// Products of small matrices with vectors of one series per lane. Included inside the namespace of an instruction set.
// Arrays are [row][lane]; counts of rows are padded to a multiple of 4, the padding is zero and stays zero.

namespace products {

constexpr int64_t padded(int64_t n) { return (n + 3) / 4 * 4; }

#if LATENTODE_LANE_BYTES == 64
constexpr int widest_tile = 16;  // sums in registers, of 32
constexpr int outer_columns = 4;
#else
constexpr int widest_tile = 12;  // of 16
constexpr int outer_columns = 2;
#endif

template <class T>
INLINE Vector<T> load(const T* p) {
    Vector<T> x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}

template <class T>
INLINE void store(T* p, Vector<T> x) {
    __builtin_memcpy(p, &x, sizeof x);
}

// `n` numbers rounded up to an odd number of vectors.
template <class T>
INLINE int64_t odd_vectors(int64_t n) {
    return (n / lanes_of<T> | 1) * lanes_of<T>;
}

// Width of the next tile of a product whose outputs `left` are still to do: the last two share what there is, as a
// narrow tile has too few sums under way.
INLINE int64_t tile_width(int64_t left) {
    if (left <= widest_tile) return padded(left);
    return left < 2 * widest_tile ? padded((left + 1) / 2) : widest_tile;
}

INLINE int64_t packed_size(int64_t n_in, int64_t n_out) { return (n_in + 1) * padded(n_out); }

// weight(j, k) for output j and input k, bias(j), as [tile][bias, then k][output in tile].
template <class T, class Weight, class Bias>
INLINE void pack(T* packed, int64_t n_in, int64_t n_out, Weight weight, Bias bias) {
    for (int64_t first = 0; first < n_out;) {
        const int64_t width = tile_width(n_out - first);
        for (int64_t k = -1; k < n_in; ++k)
            for (int64_t j = first; j < first + width; ++j)
                *packed++ = j >= n_out ? (T)0 : k < 0 ? bias(j) : weight(j, k);
        first += width;
    }
}

template <int J, class T, class Finish>
INLINE void product_tile(const T* w, const T* x, int64_t n_in, int64_t first, Finish& finish) {
    constexpr int chains = J <= 4 ? 2 : 1;  // sums under way that hide the latency of one
    Vector<T> sum[chains][J];
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) sum[0][j] = splat<Vector<T>>(w[j]);
    if constexpr (chains == 2)
        for (int j = 0; j < J; ++j) sum[1][j] = Vector<T>{};
    int64_t k = 0;
    for (; k + chains <= n_in; k += chains)
        for (int c = 0; c < chains; ++c) {
            const Vector<T> input = load(x + (k + c) * lanes_of<T>);
            w += J;
#pragma GCC unroll 16
            for (int j = 0; j < J; ++j) sum[c][j] += w[j] * input;
        }
    if (k < n_in) {
        const Vector<T> input = load(x + k * lanes_of<T>);
        w += J;
        for (int j = 0; j < J; ++j) sum[0][j] += w[j] * input;
    }
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) finish(first + j, chains == 2 ? sum[0][j] + sum[chains - 1][j] : sum[0][j]);
}

// finish(j, bias_j + sum over k of weight_jk x_k) for every output j < padded(n_out).
template <class T, class Finish>
INLINE void product(const T* packed, const T* x, int64_t n_in, int64_t n_out, Finish finish) {
    for (int64_t first = 0; first < n_out;) {
        const int64_t width = tile_width(n_out - first);
        if (width == 4) product_tile<4>(packed, x, n_in, first, finish);
        if (width == 8) product_tile<8>(packed, x, n_in, first, finish);
        if (width == 12) product_tile<12>(packed, x, n_in, first, finish);
        if constexpr (widest_tile > 12)
            if (width == 16) product_tile<16>(packed, x, n_in, first, finish);
        packed += (n_in + 1) * width;
        first += width;
    }
}

// Sums over steps and lanes of a_i b_k for 4 rows i and outer_columns k, added to `sums`.
template <class T>
INLINE void outer_tile(T* sums, const T* a, int64_t a_step, const T* b, int64_t b_step, int64_t steps) {
    constexpr int L = lanes_of<T>, C = outer_columns;
    Vector<T> sum[4 * C] = {};
    for (int64_t s = 0; s < steps; ++s, a += a_step, b += b_step) {
        Vector<T> column[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) column[c] = load(b + c * L);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
            const Vector<T> row = load(a + r * L);
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) sum[r * C + c] += row * column[c];
        }
    }
#pragma GCC unroll 16
    for (int g = 0; g < 4 * C; g += L) store(sums + g, load(sums + g) + sums_over_lanes(sum + g));
}

// The same for all rows and columns, tile after tile.
template <class T>
INLINE void outer_sums(
    T* sums, const T* a, int64_t a_step, int64_t a_rows, const T* b, int64_t b_step, int64_t b_rows, int64_t steps) {
    constexpr int64_t L = lanes_of<T>, C = outer_columns;
    for (int64_t i = 0; i < a_rows; i += 4)
        for (int64_t k = 0; k < b_rows; k += C, sums += 4 * C)
            outer_tile(sums, a + i * L, a_step, b + k * L, b_step, steps);
}

// Where outer_sums keeps the sum of row i and column k.
INLINE int64_t outer_index(int64_t i, int64_t k, int64_t b_rows) {
    constexpr int64_t C = outer_columns;
    return (i / 4 * (b_rows / C) + k / C) * 4 * C + i % 4 * C + k % C;
}

// Sums over steps of each row, lane by lane, added to `sums`.
template <class T>
INLINE void row_sums(T* sums, const T* a, int64_t a_step, int64_t a_rows, int64_t steps) {
    constexpr int L = lanes_of<T>;
    for (int64_t i = 0; i < a_rows * L; i += L) {
        Vector<T> sum = load(sums + i);
        for (int64_t s = 0; s < steps; ++s) sum += load(a + s * a_step + i);
        store(sums + i, sum);
    }
}

template <class T>
INLINE bool all_zero(const T* x, int64_t rows) {
    typename Element<Vector<T>>::Integers any{};
    for (int64_t i = 0; i < rows * lanes_of<T>; i += lanes_of<T>) any |= load(x + i) != 0;
    for (int l = 0; l < lanes_of<T>; ++l)
        if (any[l]) return false;
    return true;
}

}  // namespace products
