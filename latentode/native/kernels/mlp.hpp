// A multilayer perceptron on vectors, one series per lane, with its vector-Jacobian products and the gradients of its
// parameters. Included inside the namespace of an instruction set, after functions.hpp, memory.hpp and products.hpp.
//
// Arrays are feature-major, [feature][lane], with counts of features padded to a multiple of 4. What an evaluation
// leaves for its gradient stands in one piece of memory of `evaluation_rows` vectors.

template <class T>
struct Layer {
    int64_t n_in, n_out;
    T *weights, *transposed;  // packed, the bias in `weights`
};

template <class T>
struct Network {
    int n_layers, dim, n_inputs, time_input, activation;
    bool gated;
    const T* speed;
    Layer<T> layers[LATENTODE_MAX_LAYERS];
    // Places in an evaluation: what each layer reads; where the activation before it has a derivative that its value does
    // not tell, that; and tanh of what the last layer returns, with a gate.
    int64_t values[LATENTODE_MAX_LAYERS], derivatives[LATENTODE_MAX_LAYERS], squashed, evaluation_rows;
    // Places of the cotangents of what each layer returns.
    int64_t cotangents[LATENTODE_MAX_LAYERS], cotangent_rows;

    int64_t n_seen() const { return layers[0].n_in; }
    int64_t rows() const { return products::padded(dim); }  // of a slope
};

INLINE bool keeps_derivative(int activation) {
    return activation == LATENTODE_SOFTPLUS || activation == LATENTODE_SILU;
}

template <class T>
static void place_rows(Network<T>& net) {
    int64_t rows = 0, of_rows = 0;
    for (int l = 0; l < net.n_layers; ++l) {
        const int64_t n_in = products::padded(net.layers[l].n_in);
        net.values[l] = rows;
        rows += n_in;
        net.derivatives[l] = rows;
        if (l && keeps_derivative(net.activation)) rows += n_in;
        net.cotangents[l] = of_rows;
        of_rows += products::padded(net.layers[l].n_out);
    }
    net.squashed = rows;
    net.evaluation_rows = rows + (net.gated ? net.rows() : 0);
    net.cotangent_rows = of_rows;
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
        layer.n_in = field.widths[l];
        layer.n_out = field.widths[l + 1];
        layer.weights = memory.take<T>(products::packed_size(layer.n_in, layer.n_out));
        layer.transposed = with_transposed ? memory.take<T>(products::packed_size(layer.n_out, layer.n_in)) : nullptr;
    }
    place_rows(net);
    return net;
}

template <class T>
static void pack_network(const latentode_field& field, const Network<T>& net) {
    for (int l = 0; l < net.n_layers; ++l) {
        const Layer<T>& layer = net.layers[l];
        const T* weight = (const T*)field.weights[l];
        const T* bias = (const T*)field.biases[l];
        const int64_t n_in = layer.n_in, n_out = layer.n_out;
        products::pack(
            layer.weights, n_in, n_out, [&](int64_t j, int64_t k) { return weight[j * n_in + k]; },
            [&](int64_t j) { return bias ? bias[j] : (T)0; });
        if (!layer.transposed) continue;
        products::pack(
            layer.transposed, n_out, n_in, [&](int64_t j, int64_t k) { return weight[k * n_in + j]; },
            [](int64_t) { return (T)0; });
    }
}

// In place; `derivative`, where given and not a function of the value, is kept there.
template <class T>
static void activate(int activation, Vector<T>* x, Vector<T>* derivative, int64_t n) {
    using V = Vector<T>;
    switch (activation) {
        case LATENTODE_TANH:
            for (int64_t i = 0; i < n; ++i) x[i] = tanh_of(x[i]);
            return;
        case LATENTODE_SOFTPLUS:
            for (int64_t i = 0; i < n; ++i) {
                if (derivative) derivative[i] = sigmoid_of(x[i]);
                x[i] = softplus_of(x[i]);
            }
            return;
        case LATENTODE_ELU:
            for (int64_t i = 0; i < n; ++i) x[i] = x[i] > 0 ? x[i] : expm1_of(at_most(x[i], V{}));
            return;
        case LATENTODE_SILU:
            for (int64_t i = 0; i < n; ++i) {
                const V gate = sigmoid_of(x[i]);
                if (derivative) derivative[i] = gate * (1 + x[i] * (1 - gate));
                x[i] = x[i] * gate;
            }
            return;
        default:
            for (int64_t i = 0; i < n; ++i) x[i] = at_least(x[i], V{});
    }
}

// cotangent *= the derivative at these values
template <class T>
static void through_activation(
    int activation, Vector<T>* cotangent, const Vector<T>* value, const Vector<T>* derivative, int64_t n) {
    using V = Vector<T>;
    switch (activation) {
        case LATENTODE_TANH:
            for (int64_t i = 0; i < n; ++i) cotangent[i] = cotangent[i] * (1 - value[i] * value[i]);
            return;
        case LATENTODE_ELU:
            for (int64_t i = 0; i < n; ++i) cotangent[i] = cotangent[i] * (value[i] > 0 ? splat<V>(1) : value[i] + 1);
            return;
        case LATENTODE_RELU:
            for (int64_t i = 0; i < n; ++i) cotangent[i] = value[i] > 0 ? cotangent[i] : V{};
            return;
        default:
            for (int64_t i = 0; i < n; ++i) cotangent[i] = cotangent[i] * derivative[i];
    }
}

// What the field is to be evaluated at, into an evaluation.
template <class T>
INLINE void see(const Network<T>& net, Vector<T>* evaluation, const Vector<T>* y, Vector<T> t, const Vector<T>* inputs) {
    Vector<T>*seen = evaluation + net.values[0], *end = seen + products::padded(net.n_seen());
    for (int d = 0; d < net.dim; ++d) *seen++ = y[d];
    if (net.time_input) *seen++ = t;
    for (int i = 0; i < net.n_inputs; ++i) *seen++ = inputs[i];
    while (seen < end) *seen++ = Vector<T>{};
}

// slope[rows()] at what the evaluation has seen.
template <class T>
static void evaluate(const Network<T>& net, Vector<T>* evaluation, Vector<T>* slope) {
    using V = Vector<T>;
    for (int l = 0;; ++l) {
        const Layer<T>& layer = net.layers[l];
        const bool last = l == net.n_layers - 1;
        V* out = last ? slope : evaluation + net.values[l + 1];
        products::product(
            layer.weights, (const T*)(evaluation + net.values[l]), layer.n_in, layer.n_out,
            [&](int64_t j, V sum) { out[j] = sum; });
        if (last) break;
        V* derivative = keeps_derivative(net.activation) ? evaluation + net.derivatives[l + 1] : nullptr;
        activate<T>(net.activation, out, derivative, layer.n_out);
    }
    if (!net.gated) return;
    V* squashed = evaluation + net.squashed;
    for (int i = 0; i < net.dim; ++i) {
        squashed[i] = tanh_of(slope[i]);
        slope[i] = net.speed[i] * squashed[i];
    }
}

// Cotangents of what the field saw, into `of_seen`, from those of its slope; those of what every layer returned go to
// `cotangents`, for the parameters. `of_speed` is added to.
template <class T>
static void pull_back(
    const Network<T>& net, const Vector<T>* evaluation, Vector<T>* cotangents, const Vector<T>* of_slope, Vector<T>* of_seen,
    Vector<T>* of_speed) {
    using V = Vector<T>;
    const int last = net.n_layers - 1;
    V* of_out = cotangents + net.cotangents[last];
    for (int i = 0; i < net.dim; ++i) {
        V of = of_slope[i];
        if (net.gated) {
            const V squashed = evaluation[net.squashed + i];
            of_speed[i] += of * squashed;
            of = of * net.speed[i] * (1 - squashed * squashed);
        }
        of_out[i] = of;
    }
    for (int64_t i = net.dim; i < net.rows(); ++i) of_out[i] = V{};
    for (int l = last;; --l) {
        const Layer<T>& layer = net.layers[l];
        V* of_in = l ? cotangents + net.cotangents[l - 1] : of_seen;
        products::product(
            layer.transposed, (const T*)of_out, layer.n_out, layer.n_in, [&](int64_t j, V sum) { of_in[j] = sum; });
        if (!l) break;
        const V* x = evaluation + net.values[l];
        through_activation<T>(net.activation, of_in, x, evaluation + net.derivatives[l], layer.n_in);
        of_out = of_in;
    }
}

constexpr int64_t SUMS_BETWEEN_SAVES = 64;  // additions to float sums before they are brought to double

// Gradients of the parameters, summed over evaluations and lanes.
template <class T>
struct ParameterGradients {
    using V = Vector<T>;
    T* weights[LATENTODE_MAX_LAYERS];       // as outer_sums has them
    V* biases[LATENTODE_MAX_LAYERS];        // lane by lane
    double* totals[LATENTODE_MAX_LAYERS];   // (n_out, n_in), then (n_out): where both are brought from time to time
    V* speed;                               // [dim], lane by lane
    int64_t unsaved;                        // additions since then

    static ParameterGradients of(const Network<T>& net, Carver& memory) {
        ParameterGradients g{};
        for (int l = 0; l < net.n_layers; ++l) {
            const int64_t n_in = net.layers[l].n_in, n_out = net.layers[l].n_out;
            g.weights[l] = memory.take<T>(products::padded(n_in) * products::padded(n_out));
            g.biases[l] = memory.take<V>(products::padded(n_out));
            g.totals[l] = memory.take<double>((n_in + 1) * n_out);
        }
        g.speed = memory.take<V>(net.rows());
        return g;
    }
};

// Of `n` evaluations and their cotangents, one behind the other.
template <class T>
static void add_parameter_gradients(
    const Network<T>& net, ParameterGradients<T>& g, const Vector<T>* evaluations, const Vector<T>* cotangents, int64_t n) {
    constexpr int64_t L = lanes_of<T>;
    for (int l = 0; l < net.n_layers; ++l) {
        const T *x = (const T*)(evaluations + net.values[l]), *of = (const T*)(cotangents + net.cotangents[l]);
        const int64_t n_in = products::padded(net.layers[l].n_in), n_out = products::padded(net.layers[l].n_out);
        products::outer_sums(
            g.weights[l], of, net.cotangent_rows * L, n_out, x, net.evaluation_rows * L, n_in, n);
        products::row_sums((T*)g.biases[l], of, net.cotangent_rows * L, n_out, n);
    }
    ++g.unsaved;
}

// Bring the sums to their totals in double precision, before rounding could tell.
template <class T>
static void save_sums(const Network<T>& net, ParameterGradients<T>& g) {
    for (int l = 0; l < net.n_layers; ++l) {
        const int64_t n_in = net.layers[l].n_in, n_out = net.layers[l].n_out, columns = products::padded(n_in);
        double* total = g.totals[l];
        for (int64_t i = 0; i < n_out; ++i)
            for (int64_t k = 0; k < n_in; ++k) *total++ += (double)g.weights[l][products::outer_index(i, k, columns)];
        for (int64_t i = 0; i < n_out; ++i, ++total)
            for (int j = 0; j < lanes_of<T>; ++j) *total += (double)g.biases[l][i][j];
        clear(g.weights[l], columns * products::padded(n_out));
        clear(g.biases[l], products::padded(n_out));
    }
    g.unsaved = 0;
}
