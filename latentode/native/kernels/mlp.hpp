// A multilayer perceptron on vectors, one series per lane, with its vector-Jacobian products.
//
// Arrays are feature-major, [feature][lane]. Products are blocked in registers: a tile of up to 12 outputs is
// accumulated over all inputs, with weights in the order in which they are needed.

constexpr int LARGEST_TILE = 12;

// n outputs in tiles of equal size.
struct Tiling {
    int size, count;
    int rows() const { return size * count; }
};

INLINE Tiling tiling_of(int n) {
    const int count = (n + LARGEST_TILE - 1) / LARGEST_TILE;
    return {(n + count - 1) / count, count};
}

template <class T>
struct Layer {
    int n_in, n_out;
    Tiling ahead, back;
    T *weights, *transposed, *bias;  // [tile][n_in][size], [tile][n_out][size], [ahead.rows()]
};

// Tile of the parameter gradients: as many sums as there are lanes.
template <class T>
struct GradientTile {
    static constexpr int columns = lanes_of<T> >= 16 ? 4 : lanes_of<T> >= 4 ? 2 : 1;
    static constexpr int rows = lanes_of<T> / columns;
};

template <class T>
struct Network {
    int n_layers, dim, n_inputs, time_input, activation;
    bool gated;
    const T* speed;
    Layer<T> layers[LATENTODE_MAX_LAYERS];

    int n_seen() const { return layers[0].n_in; }

    // Rows of the array that layer `l` reads: its inputs, a row of ones for the bias, and what tiles write beyond.
    int rows_in(int l) const {
        const int needed = round_up(layers[l].n_in + 1, 4);
        const int written = l == 0 ? layers[0].back.rows() : layers[l - 1].ahead.rows();
        return needed > written ? needed : written;
    }

    // Rows of the cotangents of what layer `l` returns.
    int rows_out(int l) const {
        const int needed = round_up(layers[l].n_out, 16);
        const int written = l + 1 < n_layers ? layers[l + 1].back.rows() : layers[l].ahead.rows();
        return needed > written ? needed : written;
    }
};

template <class T>
INLINE bool keeps_derivative(int activation) {
    return activation == LATENTODE_SOFTPLUS || activation == LATENTODE_SILU;
}

template <class T>
static void pack(const T* weight, int n_in, int n_out, Tiling tiling, bool transposed, T* packed) {
    const int n = transposed ? n_in : n_out, m = transposed ? n_out : n_in;
    for (int tile = 0; tile < tiling.count; ++tile)
        for (int k = 0; k < m; ++k)
            for (int j = 0; j < tiling.size; ++j) {
                const int i = tile * tiling.size + j;
                *packed++ = i >= n ? 0 : transposed ? weight[(int64_t)k * n_in + i] : weight[(int64_t)i * n_in + k];
            }
}

// The network of a field, with places for its packed weights.
template <class T>
static Network<T> network_of(const latentode_field& field, bool with_transposed, Carver& memory) {
    Network<T> net;
    net.n_layers = (int)field.n_layers;
    net.dim = (int)field.dim;
    net.n_inputs = (int)field.n_inputs;
    net.time_input = (int)field.time_input;
    net.activation = (int)field.activation;
    net.gated = field.speed != nullptr;
    net.speed = (const T*)field.speed;
    for (int l = 0; l < net.n_layers; ++l) {
        Layer<T>& layer = net.layers[l];
        layer.n_in = (int)field.widths[l];
        layer.n_out = (int)field.widths[l + 1];
        layer.ahead = tiling_of(layer.n_out);
        layer.back = tiling_of(layer.n_in);
        layer.weights = memory.take<T>((size_t)layer.ahead.rows() * layer.n_in);
        layer.bias = memory.take<T>(layer.ahead.rows());
        layer.transposed = with_transposed ? memory.take<T>((size_t)layer.back.rows() * layer.n_out) : nullptr;
    }
    return net;
}

template <class T>
static void pack_network(const latentode_field& field, const Network<T>& net) {
    for (int l = 0; l < net.n_layers; ++l) {
        const Layer<T>& layer = net.layers[l];
        const T* weight = (const T*)field.weights[l];
        const T* bias = (const T*)field.biases[l];
        pack(weight, layer.n_in, layer.n_out, layer.ahead, false, layer.weights);
        if (layer.transposed) pack(weight, layer.n_in, layer.n_out, layer.back, true, layer.transposed);
        for (int i = 0; i < layer.ahead.rows(); ++i) layer.bias[i] = bias && i < layer.n_out ? bias[i] : 0;
    }
}

template <class T, int Size>
static void multiply_tile(const T* w, const T* bias, const Vector<T>* x, int n, Vector<T>* out) {
    using V = Vector<T>;
    constexpr int chains = Size <= 3 ? 4 : Size <= 6 ? 2 : 1;  // enough sums under way to hide the latency
    V sum[chains][Size];
    for (int j = 0; j < Size; ++j) {
        sum[0][j] = bias ? splat<V>(bias[j]) : V{};
        for (int c = 1; c < chains; ++c) sum[c][j] = V{};
    }
    int k = 0;
    for (; k + chains <= n; k += chains)
        for (int c = 0; c < chains; ++c) {
            const V value = x[k + c];
            for (int j = 0; j < Size; ++j) sum[c][j] += value * w[(k + c) * Size + j];
        }
    for (; k < n; ++k)
        for (int j = 0; j < Size; ++j) sum[0][j] += x[k] * w[k * Size + j];
    for (int j = 0; j < Size; ++j) {
        V total = sum[0][j];
        for (int c = 1; c < chains; ++c) total += sum[c][j];
        out[j] = total;
    }
}

template <class T, int Size>
static void multiply_tiles(int count, const T* w, const T* bias, const Vector<T>* x, int n, Vector<T>* out) {
    for (int tile = 0; tile < count; ++tile)
        multiply_tile<T, Size>(w + (int64_t)tile * n * Size, bias ? bias + tile * Size : nullptr, x, n, out + tile * Size);
}

// out[tiling.rows()] = packed · x[n] + bias
template <class T>
static void multiply(Tiling tiling, const T* w, const T* bias, const Vector<T>* x, int n, Vector<T>* out) {
    switch (tiling.size) {
        case 1: return multiply_tiles<T, 1>(tiling.count, w, bias, x, n, out);
        case 2: return multiply_tiles<T, 2>(tiling.count, w, bias, x, n, out);
        case 3: return multiply_tiles<T, 3>(tiling.count, w, bias, x, n, out);
        case 4: return multiply_tiles<T, 4>(tiling.count, w, bias, x, n, out);
        case 5: return multiply_tiles<T, 5>(tiling.count, w, bias, x, n, out);
        case 6: return multiply_tiles<T, 6>(tiling.count, w, bias, x, n, out);
        case 7: return multiply_tiles<T, 7>(tiling.count, w, bias, x, n, out);
        case 8: return multiply_tiles<T, 8>(tiling.count, w, bias, x, n, out);
        case 9: return multiply_tiles<T, 9>(tiling.count, w, bias, x, n, out);
        case 10: return multiply_tiles<T, 10>(tiling.count, w, bias, x, n, out);
        case 11: return multiply_tiles<T, 11>(tiling.count, w, bias, x, n, out);
        default: return multiply_tiles<T, 12>(tiling.count, w, bias, x, n, out);
    }
}

// In place; `derivative`, where given and not a function of the value, is kept there.
template <class T>
static void activate(int activation, Vector<T>* x, Vector<T>* derivative, int n) {
    using V = Vector<T>;
    switch (activation) {
        case LATENTODE_TANH:
            for (int i = 0; i < n; ++i) x[i] = tanh_of(x[i]);
            return;
        case LATENTODE_SOFTPLUS:
            for (int i = 0; i < n; ++i) {
                if (derivative) derivative[i] = sigmoid_of(x[i]);
                x[i] = softplus_of(x[i]);
            }
            return;
        case LATENTODE_ELU:
            for (int i = 0; i < n; ++i) x[i] = x[i] > 0 ? x[i] : expm1_of(at_most(x[i], V{}));
            return;
        case LATENTODE_SILU:
            for (int i = 0; i < n; ++i) {
                const V gate = sigmoid_of(x[i]);
                if (derivative) derivative[i] = gate * (1 + x[i] * (1 - gate));
                x[i] = x[i] * gate;
            }
            return;
        default:
            for (int i = 0; i < n; ++i) x[i] = at_least(x[i], V{});
    }
}

// cotangent *= the derivative at these values
template <class T>
static void through_activation(
    int activation, Vector<T>* cotangent, const Vector<T>* value, const Vector<T>* derivative, int n) {
    using V = Vector<T>;
    switch (activation) {
        case LATENTODE_TANH:
            for (int i = 0; i < n; ++i) cotangent[i] = cotangent[i] * (1 - value[i] * value[i]);
            return;
        case LATENTODE_ELU:
            for (int i = 0; i < n; ++i) cotangent[i] = cotangent[i] * (value[i] > 0 ? splat<V>(1) : value[i] + 1);
            return;
        case LATENTODE_RELU:
            for (int i = 0; i < n; ++i) cotangent[i] = value[i] > 0 ? cotangent[i] : V{};
            return;
        default:
            for (int i = 0; i < n; ++i) cotangent[i] = cotangent[i] * derivative[i];
    }
}

// What a network writes while it is evaluated: for each of `copies` evaluations, what every layer reads; and, where
// gradients are wanted, cotangents of what it returns, derivatives that are kept, and sums for the parameters.
template <class T>
struct Workspace {
    using V = Vector<T>;
    int copies;
    V* values[LATENTODE_MAX_LAYERS];
    V* cotangents[LATENTODE_MAX_LAYERS];
    V* derivatives[LATENTODE_MAX_LAYERS];  // of the layer before, beside `values`
    V* squashed;                           // [copies][dim]: tanh of the last layer, with a gate
    V* of_seen;                            // cotangents of what the field sees
    V* sums[LATENTODE_MAX_LAYERS];         // [tile of (n_out, n_in + 1)]
    double* totals[LATENTODE_MAX_LAYERS];  // the same, as numbers: where sums are brought from time to time
    V* of_speed;                           // [dim]
    int64_t unsaved;                       // additions to `sums` since then

    V* seen(const Network<T>& net, int copy) const { return values[0] + (int64_t)copy * net.rows_in(0); }
};

template <class T>
INLINE int gradient_tiles(const Layer<T>& layer) {
    using Tile = GradientTile<T>;
    return round_up(layer.n_out, Tile::rows) / Tile::rows * (round_up(layer.n_in + 1, Tile::columns) / Tile::columns);
}

// Places for a workspace, which must be zeros before `put_ones`.
template <class T>
static Workspace<T> workspace_of(const Network<T>& net, int copies, bool with_gradients, Carver& memory) {
    using V = Vector<T>;
    Workspace<T> work{};
    work.copies = copies;
    for (int l = 0; l < net.n_layers; ++l) {
        const size_t rows = (size_t)copies * net.rows_in(l);
        work.values[l] = memory.take<V>(rows);
        if (!with_gradients) continue;
        work.derivatives[l] = l && keeps_derivative<T>(net.activation) ? memory.take<V>(rows) : nullptr;
        work.cotangents[l] = memory.take<V>((size_t)copies * net.rows_out(l));
        const int tiles = gradient_tiles(net.layers[l]);
        work.sums[l] = memory.take<V>(tiles);
        work.totals[l] = memory.take<double>((size_t)tiles * lanes_of<T>);
    }
    work.squashed = net.gated ? memory.take<V>((size_t)copies * net.rows_out(net.n_layers - 1)) : nullptr;
    if (with_gradients) {
        work.of_seen = memory.take<V>(net.rows_in(0));
        work.of_speed = memory.take<V>(net.rows_out(net.n_layers - 1));
    }
    return work;
}

// The rows of ones that the biases are gradients of.
template <class T>
static void put_ones(const Network<T>& net, const Workspace<T>& work) {
    for (int l = 0; l < net.n_layers; ++l)
        for (int copy = 0; copy < work.copies; ++copy)
            work.values[l][(int64_t)copy * net.rows_in(l) + net.layers[l].n_in] = splat<Vector<T>>(1);
}

// slope[rows_out of the last layer] from what stands in `seen(copy)`.
template <class T>
static void evaluate(const Network<T>& net, const Workspace<T>& work, int copy, Vector<T>* slope) {
    using V = Vector<T>;
    const int last = net.n_layers - 1;
    for (int l = 0; l <= last; ++l) {
        const Layer<T>& layer = net.layers[l];
        const V* x = work.values[l] + (int64_t)copy * net.rows_in(l);
        if (l == last) {
            multiply(layer.ahead, layer.weights, layer.bias, x, layer.n_in, slope);
            break;
        }
        const int64_t place = (int64_t)copy * net.rows_in(l + 1);
        V* out = work.values[l + 1] + place;
        V* derivative = work.derivatives[l + 1] ? work.derivatives[l + 1] + place : nullptr;
        multiply(layer.ahead, layer.weights, layer.bias, x, layer.n_in, out);
        activate<T>(net.activation, out, derivative, layer.n_out);
        out[layer.n_out] = splat<V>(1);
    }
    if (!net.gated) return;
    V* squashed = work.squashed + (int64_t)copy * net.rows_out(last);
    for (int i = 0; i < net.dim; ++i) {
        squashed[i] = tanh_of(slope[i]);
        slope[i] = net.speed[i] * squashed[i];
    }
}

// Cotangents of what the field saw in `copy`, into `of_seen`, from those of its slope; those of what every layer
// returned stay in `cotangents`, for the parameters.
template <class T>
static void pull_back(const Network<T>& net, Workspace<T>& work, int copy, const Vector<T>* of_slope) {
    using V = Vector<T>;
    const int last = net.n_layers - 1;
    V* of_out = work.cotangents[last] + (int64_t)copy * net.rows_out(last);
    for (int i = 0; i < net.dim; ++i) {
        V of = of_slope[i];
        if (net.gated) {
            const V squashed = work.squashed[(int64_t)copy * net.rows_out(last) + i];
            work.of_speed[i] += of * squashed;
            of = of * net.speed[i] * (1 - squashed * squashed);
        }
        of_out[i] = of;
    }
    for (int l = last; l >= 0; --l) {
        const Layer<T>& layer = net.layers[l];
        V* of_in = l ? work.cotangents[l - 1] + (int64_t)copy * net.rows_out(l - 1) : work.of_seen;
        multiply(layer.back, layer.transposed, (const T*)nullptr, of_out, layer.n_out, of_in);
        if (!l) break;
        const int64_t place = (int64_t)copy * net.rows_in(l);
        const V* derivative = work.derivatives[l] ? work.derivatives[l] + place : nullptr;
        through_activation<T>(net.activation, of_in, work.values[l] + place, derivative, layer.n_in);
        of_out = of_in;
    }
}

// Gradients of weights and biases of the evaluations [first, first + n): products of cotangents and values, summed
// over evaluations and lanes.
template <class T>
static void add_parameter_gradients(const Network<T>& net, Workspace<T>& work, int first, int n) {
    using V = Vector<T>;
    constexpr int rows = GradientTile<T>::rows, columns = GradientTile<T>::columns;
    for (int l = 0; l < net.n_layers; ++l) {
        const Layer<T>& layer = net.layers[l];
        const int64_t of_stride = net.rows_out(l), stride = net.rows_in(l);
        V* sums = work.sums[l];
        for (int i = 0; i < layer.n_out; i += rows)
            for (int k = 0; k <= layer.n_in; k += columns) {
                V sum[rows * columns] = {};
                const V* of = work.cotangents[l] + first * of_stride + i;
                const V* x = work.values[l] + first * stride + k;
                for (int copy = 0; copy < n; ++copy, of += of_stride, x += stride)
                    for (int c = 0; c < columns; ++c) {
                        const V value = x[c];
                        for (int r = 0; r < rows; ++r) sum[r * columns + c] += of[r] * value;
                    }
                *sums += sums_over_lanes(sum);
                ++sums;
            }
    }
}

// Bring the sums to their totals in double precision, before rounding could tell.
template <class T>
static void save_sums(const Network<T>& net, Workspace<T>& work) {
    for (int l = 0; l < net.n_layers; ++l) {
        const int tiles = gradient_tiles(net.layers[l]);
        for (int tile = 0; tile < tiles; ++tile)
            for (int j = 0; j < lanes_of<T>; ++j) work.totals[l][(int64_t)tile * lanes_of<T> + j] += work.sums[l][tile][j];
        clear(work.sums[l], tiles);
    }
    work.unsaved = 0;
}

// Totals (in the order of tiles) added to gradients (n_out, n_in) and (n_out).
template <class T>
static void add_totals(const Layer<T>& layer, const double* totals, double* of_weight, double* of_bias) {
    constexpr int rows = GradientTile<T>::rows, columns = GradientTile<T>::columns;
    for (int i = 0; i < layer.n_out; i += rows)
        for (int k = 0; k <= layer.n_in; k += columns)
            for (int r = 0; r < rows; ++r)
                for (int c = 0; c < columns; ++c, ++totals) {
                    if (i + r >= layer.n_out || k + c > layer.n_in) continue;
                    if (k + c == layer.n_in)
                        of_bias[i + r] += *totals;
                    else
                        of_weight[(int64_t)(i + r) * layer.n_in + k + c] += *totals;
                }
}
