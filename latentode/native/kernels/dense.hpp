// A multilayer perceptron on the rows of a matrix, forward and backward. Included inside the namespace of an instruction
// set, after mlp.hpp.
//
// Lanes of a vector are features here, not series, so that rows are read as they are. A block of rows passes through all
// layers before the next one does: [row][feature], with widths padded to a multiple of `unit`, rows to one of `tile_rows`.

namespace dense {

constexpr int64_t block_rows = 64;
constexpr int tile_rows = LATENTODE_LANE_BYTES == 64 ? 8 : 4;  // with two vectors each, what registers hold

template <class T>
constexpr int64_t unit = lanes_of<T> > 8 ? lanes_of<T> : 8;

template <class T>
INLINE int64_t padded(int64_t n) {
    return (n + unit<T> - 1) / unit<T> * unit<T>;
}

template <int V, bool Add, class T>
INLINE void multiply_tile(
    const T* a, int64_t a_row, int64_t a_step, const Vector<T>* b, int64_t b_step, int64_t n, const Vector<T>* start,
    Vector<T>* c, int64_t c_row) {
    Vector<T> sum[tile_rows][V];
#pragma GCC unroll 8
    for (int i = 0; i < tile_rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[i][v] = Add ? c[i * c_row + v] : start ? start[v] : Vector<T>{};
    for (int64_t s = 0; s < n; ++s, a += a_step, b += b_step)
#pragma GCC unroll 8
        for (int i = 0; i < tile_rows; ++i)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) sum[i][v] += a[i * a_row] * b[v];
#pragma GCC unroll 8
    for (int i = 0; i < tile_rows; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) c[i * c_row + v] = sum[i][v];
}

// c[i][j] = start_j + sum over s < n of a[i a_row + s a_step] b[s][j], or with Add that much more, for all i < rows and
// j < columns, both padded. Rows of b and c are `columns` long.
template <bool Add, class T>
static void multiply(
    const T* a, int64_t a_row, int64_t a_step, const T* b, int64_t n, const T* start, T* c, int64_t rows, int64_t columns) {
    using V = Vector<T>;
    const int64_t width = columns / lanes_of<T>;
    for (int64_t i = 0; i < rows; i += tile_rows)
        for (int64_t v = 0; v < width;) {
            const V *from = (const V*)b + v, *first = start ? (const V*)start + v : nullptr;
            V* to = (V*)c + i * width + v;
            if (v + 2 <= width) {
                multiply_tile<2, Add>(a + i * a_row, a_row, a_step, from, width, n, first, to, width);
                v += 2;
            } else {
                multiply_tile<1, Add>(a + i * a_row, a_row, a_step, from, width, n, first, to, width);
                v += 1;
            }
        }
}

// Packed weights, which all threads share, and what one thread writes.
template <class T>
struct Memory {
    int n_layers;
    int64_t width[LATENTODE_MAX_LAYERS + 1], wide[LATENTODE_MAX_LAYERS + 1];
    T *ahead[LATENTODE_MAX_LAYERS], *bias[LATENTODE_MAX_LAYERS], *back[LATENTODE_MAX_LAYERS];  // (n_in, wide), (n_out, wide)
    T *values[LATENTODE_MAX_LAYERS + 1], *derivatives[LATENTODE_MAX_LAYERS] = {};
    T *cotangents[2] = {}, *d_weights[LATENTODE_MAX_LAYERS] = {}, *d_biases[LATENTODE_MAX_LAYERS] = {};
    size_t used;

    Memory(const latentode_dense& p, void* block, int thread) : n_layers((int)p.n_layers) {
        const bool backward = p.backward != 0;
        int64_t widest = 0;
        for (int l = 0; l <= n_layers; ++l) {
            width[l] = p.widths[l], wide[l] = padded<T>(width[l]);
            if (wide[l] > widest) widest = wide[l];
        }
        Carver memory{(char*)block, 0};
        for (int l = 0; l < n_layers; ++l) {
            ahead[l] = memory.take<T>((size_t)(width[l] * wide[l + 1]));
            bias[l] = memory.take<T>((size_t)wide[l + 1]);
            back[l] = backward ? memory.take<T>((size_t)(width[l + 1] * wide[l])) : nullptr;
        }
        const size_t begin = memory.used;
        for (int turn = 0; turn < 2; ++turn) {  // the first one finds how much a thread needs
            for (int l = 0; l <= n_layers; ++l) values[l] = memory.take<T>((size_t)(block_rows * wide[l]));
            for (int l = 1; backward && l < n_layers; ++l)
                derivatives[l] = keeps_derivative(p.activation) ? memory.take<T>((size_t)(block_rows * wide[l])) : nullptr;
            for (int i = 0; backward && i < 2; ++i) cotangents[i] = memory.take<T>((size_t)(block_rows * widest));
            for (int l = 0; backward && p.d_weights && l < n_layers; ++l) {
                d_weights[l] = memory.take<T>((size_t)(wide[l + 1] * wide[l]));
                d_biases[l] = memory.take<T>((size_t)wide[l + 1]);
            }
            const size_t each = memory.used - begin;
            used = begin + each * (size_t)p.n_threads;
            if (turn == 1) break;
            memory.used = begin + each * (size_t)thread;
        }
    }
};

template <class T>
static void pack_layers(const latentode_dense& p, const Memory<T>& m) {
    for (int l = 0; l < m.n_layers; ++l) {
        const T *weight = (const T*)p.weights[l], *bias = (const T*)p.biases[l];
        const int64_t n_in = m.width[l], n_out = m.width[l + 1], wide = m.wide[l + 1];
        for (int64_t k = 0; k < n_in; ++k)
            for (int64_t j = 0; j < wide; ++j) m.ahead[l][k * wide + j] = j < n_out ? weight[j * n_in + k] : (T)0;
        for (int64_t j = 0; j < wide; ++j) m.bias[l][j] = bias && j < n_out ? bias[j] : (T)0;
        if (!m.back[l]) continue;
        for (int64_t j = 0; j < n_out; ++j)
            for (int64_t k = 0; k < m.wide[l]; ++k) m.back[l][j * m.wide[l] + k] = k < n_in ? weight[j * n_in + k] : (T)0;
    }
}

// Of a few numbers, where a call of memcpy would take longer than the copy.
template <class T>
INLINE void copy(const T* from, T* to, int64_t n) {
    for (; n >= 4; n -= 4, from += 4, to += 4) __builtin_memcpy(to, from, 4 * sizeof(T));
    if (n & 2) __builtin_memcpy(to, from, 2 * sizeof(T));
    if (n & 1) to[n & 2] = from[n & 2];
}

// n rows of a matrix into a block, with zeros around them.
template <class T>
static void read_rows(const void* matrix, int64_t first, int64_t n, int64_t rows, int64_t width, int64_t wide, T* block) {
    const T* from = (const T*)matrix + first * width;
    if (width == wide) {
        __builtin_memcpy(block, from, (size_t)(n * wide) * sizeof(T));
    } else {
        clear(block, (size_t)(n * wide));
        for (int64_t row = 0; row < n; ++row) copy(from + row * width, block + row * wide, width);
    }
    clear(block + n * wide, (size_t)((rows - n) * wide));
}

template <class T>
static void write_rows(const T* block, int64_t first, int64_t n, int64_t width, int64_t wide, void* matrix) {
    T* to = (T*)matrix + first * width;
    if (width == wide)
        __builtin_memcpy(to, block, (size_t)(n * wide) * sizeof(T));
    else
        for (int64_t row = 0; row < n; ++row) copy(block + row * wide, to + row * width, width);
}

// The first `n_layers` layers of a block, from values[0].
template <class T>
static void evaluate_block(const latentode_dense& p, const Memory<T>& m, int n_layers, int64_t rows, bool with_derivatives) {
    using V = Vector<T>;
    for (int l = 0; l < n_layers; ++l) {
        const int64_t wide = m.wide[l + 1];
        multiply<false, T>(m.values[l], m.wide[l], 1, m.ahead[l], m.width[l], m.bias[l], m.values[l + 1], rows, wide);
        if (l + 1 == m.n_layers) break;
        V* derivative = with_derivatives ? (V*)m.derivatives[l + 1] : nullptr;
        activate<T>(p.activation, (V*)m.values[l + 1], derivative, (int)(rows * wide / lanes_of<T>));
    }
}

template <class T>
static void add_row_sums(const T* block, int64_t n, int64_t wide, T* sums) {
    for (int64_t row = 0; row < n; ++row)
        for (int64_t j = 0; j < wide; ++j) sums[j] += block[row * wide + j];
}

// From the cotangent of a block's answers in cotangents[0]; that of its inputs is in cotangents[the result].
template <class T>
static int pull_back_block(const latentode_dense& p, const Memory<T>& m, int64_t n, int64_t rows) {
    using V = Vector<T>;
    int at = 0;
    for (int l = m.n_layers - 1; l >= 0; --l) {
        const int64_t wide_in = m.wide[l], wide_out = m.wide[l + 1];
        const T* of_out = m.cotangents[at];
        if (p.d_weights) {
            const int64_t outputs = (m.width[l + 1] + tile_rows - 1) / tile_rows * tile_rows;
            multiply<true, T>(of_out, 1, wide_out, m.values[l], n, nullptr, m.d_weights[l], outputs, wide_in);
            add_row_sums(of_out, n, wide_out, m.d_biases[l]);
        }
        if (l == 0 && !p.d_x) break;
        at = 1 - at;
        T* of_in = m.cotangents[at];
        multiply<false, T>(of_out, wide_out, 1, m.back[l], m.width[l + 1], nullptr, of_in, rows, wide_in);
        if (l)
            through_activation<T>(
                p.activation, (V*)of_in, (const V*)m.values[l], (const V*)m.derivatives[l], (int)(rows * wide_in / lanes_of<T>));
    }
    return at;
}

template <class T>
static size_t bytes(const latentode_dense* p) {
    return Memory<T>(*p, nullptr, 0).used;
}

template <class T>
static void pack(const latentode_dense* p, void* block) {
    pack_layers(*p, Memory<T>(*p, block, 0));
}

// Calls work(first row, rows, rows padded) for each block of a thread: which one is a matter of the problem alone.
template <class Work>
INLINE void each_block(const latentode_dense& p, int thread, Work work) {
    const int64_t n_blocks = (p.n_rows + block_rows - 1) / block_rows;
    for (int64_t block = n_blocks * thread / p.n_threads; block < n_blocks * (thread + 1) / p.n_threads; ++block) {
        const int64_t first = block * block_rows, left = p.n_rows - first, n = left < block_rows ? left : block_rows;
        work(first, n, (n + tile_rows - 1) / tile_rows * tile_rows);
    }
}

template <class T>
static void forward(const latentode_dense& p, const Memory<T>& m, int thread) {
    each_block(p, thread, [&](int64_t first, int64_t n, int64_t rows) {
        read_rows(p.x, first, n, rows, m.width[0], m.wide[0], m.values[0]);
        evaluate_block(p, m, m.n_layers, rows, false);
        write_rows(m.values[m.n_layers], first, n, m.width[m.n_layers], m.wide[m.n_layers], p.y);
    });
}

template <class T>
static void backward(const latentode_dense& p, const Memory<T>& m, int thread) {
    for (int l = 0; p.d_weights && l < m.n_layers; ++l) {
        clear(m.d_weights[l], (size_t)(m.wide[l + 1] * m.wide[l]));
        clear(m.d_biases[l], (size_t)m.wide[l + 1]);
    }
    each_block(p, thread, [&](int64_t first, int64_t n, int64_t rows) {
        read_rows(p.x, first, n, rows, m.width[0], m.wide[0], m.values[0]);
        evaluate_block(p, m, m.n_layers - 1, rows, true);
        read_rows(p.d_y, first, n, rows, m.width[m.n_layers], m.wide[m.n_layers], m.cotangents[0]);
        const int at = pull_back_block(p, m, n, rows);
        if (p.d_x) write_rows(m.cotangents[at], first, n, m.width[0], m.wide[0], p.d_x);
    });
}

template <class T>
static void run(const latentode_dense* problem, void* block, int thread) {
    const NoSubnormals from_here;
    const Memory<T> m(*problem, block, thread);
    problem->backward ? backward(*problem, m, thread) : forward(*problem, m, thread);
}

// After all threads of a backward run: their gradients, one after the other.
template <class T>
static void collect(const latentode_dense* problem, void* block) {
    const latentode_dense& p = *problem;
    for (int thread = 0; p.backward && p.d_weights && thread < p.n_threads; ++thread) {
        const Memory<T> m(p, block, thread);
        for (int l = 0; l < m.n_layers; ++l) {
            const int64_t n_in = m.width[l], n_out = m.width[l + 1];
            T *of_weight = (T*)p.d_weights[l], *of_bias = (T*)p.d_biases[l];
            for (int64_t j = 0; j < n_out; ++j) {
                for (int64_t k = 0; k < n_in; ++k)
                    of_weight[j * n_in + k] = (thread ? of_weight[j * n_in + k] : (T)0) + m.d_weights[l][j * m.wide[l] + k];
                if (of_bias) of_bias[j] = (thread ? of_bias[j] : (T)0) + m.d_biases[l][j];
            }
        }
    }
}

}  // namespace dense
