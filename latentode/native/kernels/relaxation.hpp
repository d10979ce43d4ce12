// The flow of a recurrent state between two rows: steps of the exponential midpoint rule of
// dh/dt = rate (goal(h) - h), goal(h) = tanh(W_out tanh(W_in h + b_in) + b_out), forward and backward.
// Included inside the namespace of an instruction set, after functions.hpp, memory.hpp and products.hpp.
//
//     midway = half h + (1 - half) goal(h),  next = half² h + (1 - half²) goal(midway),  half = exp(-rate gap / 2)

namespace gru {

using products::load;
using products::padded;
using products::store;

// In a slot, from `slot`: for each step (h, hidden layer, goal, midway, its hidden layer, its goal), then half, then the gap.
// In the cotangents, from `cotangents`: for each step those before the nonlinearities of (goal, hidden layer) of h, of midway.
template <class T>
struct FlowSizes {
    static constexpr int64_t L = lanes_of<T>;
    int64_t steps, hidden, field, slot = 0, cotangents = 0;
    int64_t layer, goal, midway, layer_midway, goal_midway, step, slot_size;
    int64_t d_goal, d_layer, d_goal_midway, d_layer_midway, d_step, cotangents_size;

    explicit FlowSizes(const latentode_gru& g) : steps(g.flow_steps), hidden(padded(g.hidden)), field(padded(g.field)) {
        const int64_t H = hidden * L, P = field * L;
        layer = H, goal = layer + P, midway = goal + H, layer_midway = midway + H, goal_midway = layer_midway + P;
        step = goal_midway + H;
        slot_size = steps ? steps * step + H + L : 0;
        d_goal = 0, d_layer = H, d_goal_midway = H + P, d_layer_midway = 2 * H + P, d_step = 2 * (H + P);
        cotangents_size = steps * d_step;
    }
    int64_t half() const { return slot + steps * step; }
    int64_t gap() const { return half() + hidden * L; }
    // Gradients of a thread: both matrices as outer_sums has them, then lane by lane both biases and the rate.
    int64_t matrix() const { return hidden * field; }
    int64_t gradients() const { return steps ? 2 * matrix() + (2 * hidden + field) * L : 0; }
};

template <class T>
struct FlowForward {
    T *in, *out, *rate;  // packed

    FlowForward(const latentode_gru& g, const FlowSizes<T>& size, Carver& memory) {
        in = memory.take<T>(size.steps ? products::packed_size(g.hidden, g.field) : 0);
        out = memory.take<T>(size.steps ? products::packed_size(g.field, g.hidden) : 0);
        rate = memory.take<T>(size.hidden);
    }
    void pack(const latentode_gru& g) const {
        if (!g.flow_steps) return;
        const int64_t H = g.hidden, P = g.field;
        const T *w_in = (const T*)g.flow_weight_in, *w_out = (const T*)g.flow_weight_out;
        const T *b_in = (const T*)g.flow_bias_in, *b_out = (const T*)g.flow_bias_out;
        products::pack(
            in, H, P, [&](int64_t j, int64_t k) { return w_in[j * H + k]; }, [&](int64_t j) { return b_in[j]; });
        products::pack(
            out, P, H, [&](int64_t j, int64_t k) { return w_out[j * P + k]; }, [&](int64_t j) { return b_out[j]; });
        for (int64_t u = 0; u < padded(H); ++u) rate[u] = u < H ? ((const T*)g.rate)[u] : (T)0;
    }
};

template <class T>
INLINE void tanh_layer(const T* packed, const T* x, int64_t n_in, int64_t n_out, T* y) {
    products::product(packed, x, n_in, n_out, [&](int64_t j, Vector<T> sum) { store(y + j * lanes_of<T>, tanh_of(sum)); });
}

// keeps h + (1 - keeps) goal, which is h to the last bit where keeps = 1
template <class V>
INLINE V drawn(V h, V goal, V keeps) {
    return keeps * h + (goal - keeps * goal);
}

// From the state at the begin of the slot's flow, and the gaps of the lanes, to the state of the cell.
template <class T>
static void flow(const latentode_gru& g, const FlowSizes<T>& size, const FlowForward<T>& own, const T* gap, T* slot, T* state) {
    constexpr int64_t L = lanes_of<T>;
    T *half = slot + size.half(), *h = slot + size.slot;
    const Vector<T> span = load(gap);
    store(slot + size.gap(), span);
    for (int64_t u = 0; u < size.hidden; ++u) store(half + u * L, exp_of(-own.rate[u] * span));
    for (int64_t i = 1; i <= size.steps; ++i) {
        T *midway = h + size.midway, *next = i < size.steps ? h + size.step : state;
        tanh_layer(own.in, h, g.hidden, g.field, h + size.layer);
        tanh_layer(own.out, h + size.layer, g.field, g.hidden, h + size.goal);
        for (int64_t at = 0; at < size.hidden * L; at += L)
            store(midway + at, drawn(load(h + at), load(h + size.goal + at), load(half + at)));
        tanh_layer(own.in, midway, g.hidden, g.field, h + size.layer_midway);
        tanh_layer(own.out, h + size.layer_midway, g.field, g.hidden, h + size.goal_midway);
        for (int64_t at = 0; at < size.hidden * L; at += L) {
            const Vector<T> keeps = load(half + at);
            store(next + at, drawn(load(h + at), load(h + size.goal_midway + at), keeps * keeps));
        }
        h = next;
    }
}

template <class T>
struct FlowBackward {
    T *in, *out, *d_half, *gradients;  // in, out: packed and transposed

    FlowBackward(const latentode_gru& g, const FlowSizes<T>& size, Carver& memory) {
        in = memory.take<T>(size.steps ? products::packed_size(g.field, g.hidden) : 0);
        out = memory.take<T>(size.steps ? products::packed_size(g.hidden, g.field) : 0);
        d_half = memory.take<T>(size.hidden * lanes_of<T>);
        gradients = memory.take<T>(size.gradients());
    }
    void pack(const latentode_gru& g, const FlowSizes<T>& size) const {
        if (!g.flow_steps) return;
        const int64_t H = g.hidden, P = g.field;
        const T *w_in = (const T*)g.flow_weight_in, *w_out = (const T*)g.flow_weight_out;
        const auto none = [](int64_t) { return (T)0; };
        products::pack(in, P, H, [&](int64_t j, int64_t k) { return w_in[k * H + j]; }, none);
        products::pack(out, H, P, [&](int64_t j, int64_t k) { return w_out[k * P + j]; }, none);
        clear(gradients, size.gradients());
    }
};

// From the cotangent of a goal, in place in `d_goal`, those before the nonlinearities; adds that of its argument to d_x.
template <class T>
INLINE void goal_backward(
    const latentode_gru& g, const FlowSizes<T>& size, const FlowBackward<T>& own, const T* layer, const T* goal, T* d_goal,
    T* d_layer, T* d_x) {
    constexpr int64_t L = lanes_of<T>;
    for (int64_t at = 0; at < size.hidden * L; at += L) {
        const Vector<T> y = load(goal + at);
        store(d_goal + at, load(d_goal + at) * (1 - y * y));
    }
    products::product(own.out, d_goal, g.hidden, g.field, [&](int64_t j, Vector<T> sum) {
        const Vector<T> y = load(layer + j * L);
        store(d_layer + j * L, sum * (1 - y * y));
    });
    products::product(own.in, d_layer, g.field, g.hidden, [&](int64_t j, Vector<T> sum) {
        store(d_x + j * L, load(d_x + j * L) + sum);
    });
}

// Turns the cotangent of the cell's state into that of the state at the begin of the slot's flow.
template <class T>
static void flow_backward(
    const latentode_gru& g, const FlowSizes<T>& size, const FlowBackward<T>& own, const T* slot, T* d_state, T* cotangents) {
    constexpr int64_t L = lanes_of<T>;
    const int64_t n = size.hidden * L;
    const T* half = slot + size.half();
    T *d_half = own.d_half, *d_rate = own.gradients + size.gradients() - n;
    clear(d_half, n);
    for (int64_t i = size.steps - 1; i >= 0; --i) {
        const T* h = slot + size.slot + i * size.step;
        T *c = cotangents + size.cotangents + i * size.d_step, *d_goal = c + size.d_goal, *d_midway = c + size.d_goal_midway;
        for (int64_t at = 0; at < n; at += L) {
            const Vector<T> keeps = load(half + at), d = load(d_state + at);
            store(d_half + at, load(d_half + at) + 2 * keeps * d * (load(h + at) - load(h + size.goal_midway + at)));
            store(d_midway + at, d * (1 - keeps * keeps));
            store(d_state + at, d * keeps * keeps);
            store(d_goal + at, Vector<T>{});
        }
        goal_backward(
            g, size, own, h + size.layer_midway, h + size.goal_midway, d_midway, c + size.d_layer_midway, d_goal);
        for (int64_t at = 0; at < n; at += L) {
            const Vector<T> keeps = load(half + at), d = load(d_goal + at);  // d: of midway
            store(d_half + at, load(d_half + at) + d * (load(h + at) - load(h + size.goal + at)));
            store(d_state + at, load(d_state + at) + d * keeps);
            store(d_goal + at, d * (1 - keeps));
        }
        goal_backward(g, size, own, h + size.layer, h + size.goal, d_goal, c + size.d_layer, d_state);
    }
    const Vector<T> span = load(slot + size.gap());
    for (int64_t at = 0; at < n; at += L)
        store(d_rate + at, load(d_rate + at) - span * load(half + at) * load(d_half + at));
}

// Of `count` slots and their cotangents, which lie `along` and `across` numbers apart.
template <class T>
static void add_flow_gradients(
    const FlowSizes<T>& size, const FlowBackward<T>& own, const T* slot, int64_t along, const T* cotangents, int64_t across,
    int64_t count) {
    const int64_t H = size.hidden, P = size.field;
    T *d_in = own.gradients, *d_out = d_in + size.matrix(), *d_biases = d_out + size.matrix();
    for (int64_t i = 0; i < size.steps; ++i) {
        const T *h = slot + size.slot + i * size.step, *c = cotangents + size.cotangents + i * size.d_step;
        products::outer_sums(d_in, c + size.d_layer, across, P, h, along, H, count);
        products::outer_sums(d_in, c + size.d_layer_midway, across, P, h + size.midway, along, H, count);
        products::outer_sums(d_out, c + size.d_goal, across, H, h + size.layer, along, P, count);
        products::outer_sums(d_out, c + size.d_goal_midway, across, H, h + size.layer_midway, along, P, count);
        products::row_sums(d_biases, c + size.d_goal, across, H + P, count);  // of goal, of the hidden layer
        products::row_sums(d_biases, c + size.d_goal_midway, across, H + P, count);
    }
}

template <class T>
INLINE void add_lanes(void* total, const T* rows, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        for (int64_t l = 0; l < lanes_of<T>; ++l) ((T*)total)[i] += rows[i * lanes_of<T> + l];
}

// The gradients of one thread into the caller's arrays.
template <class T>
static void collect_flow(const latentode_gru& g, const FlowSizes<T>& size, const FlowBackward<T>& own) {
    const int64_t H = g.hidden, P = g.field;
    const T *d_in = own.gradients, *d_out = d_in + size.matrix(), *d_biases = d_out + size.matrix();
    for (int64_t j = 0; j < P; ++j)
        for (int64_t k = 0; k < H; ++k) {
            ((T*)g.d_flow_weight_in)[j * H + k] += d_in[products::outer_index(j, k, size.hidden)];
            ((T*)g.d_flow_weight_out)[k * P + j] += d_out[products::outer_index(k, j, size.field)];
        }
    add_lanes(g.d_flow_bias_out, d_biases, H);
    add_lanes(g.d_flow_bias_in, d_biases + size.hidden * lanes_of<T>, P);
    add_lanes(g.d_rate, d_biases + (size.hidden + size.field) * lanes_of<T>, H);
}

}  // namespace gru
