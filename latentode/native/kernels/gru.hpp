// A GRU over ragged series, forward and backward, with the encoder's inputs read straight from the padded batch, and
// with or without a flow of its state between the rows (ODE-RNN). Included inside the namespace of an instruction set,
// after gru_reading.hpp.
//
// A block is as many series as a vector has lanes. A slot holds what one step of a block leaves to the backward pass:
//     state (Hp), reset, update, candidate (3 Hp), the state's part in the candidate (Hp), inputs (Fp), the flow's
// with Hp, Fp the sizes padded to a multiple of 4, and a number of vectors that is odd, lest slots share cache sets.

namespace gru {

constexpr int64_t chunk = 32;  // steps whose cotangents are kept before they go to the gradients of the weights

// ---- forward --------------------------------------------------------------------------------------------------------

INLINE F32 gate_of(F32 x) { return 0.5f + 0.5f * tanh_of(0.5f * x); }
INLINE F64 gate_of(F64 x) { return sigmoid_of(x); }

// Four units of the three gates a tile: biases (reset, update, input's and state's part of the candidate), then for
// every input, then for every state the weights of (reset, update, candidate).
template <class T>
static void pack_gates(const latentode_gru& g, T* packed) {
    const int64_t H = g.hidden, F = Sizes<T>::n_inputs(g);
    const T *wi = (const T*)g.weight_ih, *wh = (const T*)g.weight_hh;
    const T *bi = (const T*)g.bias_ih, *bh = (const T*)g.bias_hh;
    for (int64_t first = 0; first < H; first += 4) {
        for (int part = 0; part < 4; ++part)
            for (int64_t u = first; u < first + 4; ++u) {
                const int64_t r = u, z = H + u, n = 2 * H + u;
                *packed++ = u >= H      ? (T)0
                            : part == 0 ? bi[r] + bh[r]
                            : part == 1 ? bi[z] + bh[z]
                            : part == 2 ? bi[n]
                                        : bh[n];
            }
        for (int64_t k = 0; k < F + H; ++k)
            for (int gate = 0; gate < 3; ++gate)
                for (int64_t u = first; u < first + 4; ++u)
                    *packed++ = u >= H ? (T)0 : k < F ? wi[(gate * H + u) * F + k] : wh[(gate * H + u) * H + k - F];
    }
}

template <class T>
INLINE void add_products(const T* w, Vector<T> x, Vector<T>* a, Vector<T>* b, Vector<T>* c) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) a[u] += w[u] * x;
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) b[u] += w[4 + u] * x;
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) c[u] += w[8 + u] * x;
}

template <class T>
static void update(const latentode_gru& g, const Sizes<T>& size, const T* packed, const Reading<T>& reading, T* slot, T* next) {
    constexpr int L = lanes_of<T>;
    using V = Vector<T>;
    const int64_t F = Sizes<T>::n_inputs(g);
    const T *x = slot + size.read, *h = slot + size.state;
    for (int64_t first = 0; first < size.hidden; first += 4) {
        V r[4], z[4], n[4], own[4];
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) {
            r[u] = splat<V>(packed[u]), z[u] = splat<V>(packed[4 + u]);
            n[u] = splat<V>(packed[8 + u]), own[u] = splat<V>(packed[12 + u]);
        }
        packed += 16;
        for (int64_t i = 0; i < reading.n_seen; ++i)
            add_products(packed + reading.seen[i] / L * 12, load(x + reading.seen[i]), r, z, n);
        packed += 12 * F;
        for (int64_t k = 0; k < g.hidden; ++k, packed += 12) add_products(packed, load(h + k * L), r, z, own);
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) {
            T* unit = slot + (first + u) * L;
            const V reset = gate_of(r[u]), gate = gate_of(z[u]);
            const V keeps = reading.updates ? gate : splat<V>(1);  // to the last bit
            const V candidate = tanh_of(n[u] + reset * own[u]);
            store(unit + size.reset, reset);
            store(unit + size.update, keeps);
            store(unit + size.candidate, candidate);
            store(unit + size.recurrent, own[u]);
            store(next + (first + u) * L, keeps * load(unit + size.state) + (candidate - keeps * candidate));
        }
    }
}

template <class T>
struct Forward {
    T *packed, *last, *slots;  // slots: two in turn where none are kept
    int64_t* seen;
    FlowForward<T> flow;

    Forward(const latentode_gru& g, const Sizes<T>& size, Carver& memory) : flow(g, size.flow, memory) {
        packed = memory.take<T>(size.packed_gates(g));
        last = memory.take<T>(size.hidden * lanes_of<T>);
        slots = memory.take<T>(2 * size.slot);
        seen = memory.take<int64_t>(Sizes<T>::n_inputs(g));
    }
};

template <class T>
static void write_states(const latentode_gru& g, const Lanes<T>& lanes, const T* h) {
    for (int i = 0; i < lanes.n; ++i)
        for (int64_t u = 0; u < g.hidden; ++u)
            ((T*)g.states)[lanes.series[i] * g.hidden + u] = h[u * lanes_of<T> + i];
}

template <class T>
static void forward(const latentode_gru* problem, int thread) {
    const latentode_gru& g = *problem;
    const NoSubnormals mode;
    const Sizes<T> size(g);
    Carver memory{(char*)g.scratch + thread * (g.forward_bytes / g.n_threads), 0};
    const Forward<T> own(g, size, memory);
    pack_gates(g, own.packed);
    own.flow.pack(g);
    share<T>(g, thread, [&](int64_t block, int64_t first_slot) {
        const Lanes<T> lanes(g, block);
        const int64_t rows = n_rows<T>(g, block);
        Reading<T> reading;
        reading.seen = own.seen;
        T* slot = g.keep ? (T*)g.saved + first_slot * size.slot : own.slots;
        clear(rows ? slot + size.state : own.last, size.hidden * lanes_of<T>);
        for (int64_t step = 0; step < rows; ++step) {
            T* next = g.keep ? slot + size.slot : own.slots + (step + 1) % 2 * size.slot;
            reading.read(g, lanes, step, slot + size.read);
            if (step > 0 && size.flow.steps) flow(g, size.flow, own.flow, reading.span, slot, slot + size.state);
            update(g, size, own.packed, reading, slot, step + 1 < rows ? next + size.entry() : own.last);
            slot = next;
        }
        write_states(g, lanes, own.last);
    });
}

// ---- backward -------------------------------------------------------------------------------------------------------

template <class T>
struct Backward {
    T *packed, *d_state, *cotangents, *gradients;
    FlowBackward<T> flow;

    Backward(const latentode_gru& g, const Sizes<T>& size, Carver& memory) : flow(g, size.flow, memory) {
        packed = memory.take<T>(size.packed_transpose(g));
        d_state = memory.take<T>(size.hidden * lanes_of<T>);
        cotangents = memory.take<T>(chunk * size.cotangents);
        gradients = memory.take<T>(size.gradients());
    }
};

// From the cotangent of the state after a step, those of (reset, update, the state's part of the candidate, candidate)
// before their nonlinearities; leaves in d_state what went past the gates.
template <class T>
INLINE void unit_cotangents(const Sizes<T>& size, const T* slot, T* d_state, T* cotangents) {
    using V = Vector<T>;
    const int64_t next = size.hidden * lanes_of<T>;
    for (int64_t at = 0; at < next; at += lanes_of<T>) {
        const V h = load(slot + size.state + at), r = load(slot + size.reset + at), z = load(slot + size.update + at);
        const V n = load(slot + size.candidate + at), own = load(slot + size.recurrent + at);
        const V d = load(d_state + at);
        const V d_candidate = d * (1 - z) * (1 - n * n);
        T* c = cotangents + at;
        store(c, d_candidate * own * (r - r * r));
        store(c + next, d * (h - n) * (z - z * z));
        store(c + 2 * next, d_candidate * r);
        store(c + 3 * next, d_candidate);
        store(d_state + at, d * z);
    }
}

template <class T>
static void add_to_gradients(const Sizes<T>& size, const Backward<T>& own, const T* first_slot, int64_t steps) {
    constexpr int L = lanes_of<T>;
    const int64_t H = size.hidden, F = size.inputs, along = size.slot, across = size.cotangents;
    const T *x = first_slot + size.read, *candidate = own.cotangents + 3 * H * L;
    T *d_input = own.gradients + size.d_recurrent(), *d_biases = d_input + size.d_input();
    products::outer_sums(own.gradients, own.cotangents, across, 3 * H, first_slot + size.state, along, H, steps);
    products::outer_sums(d_input, own.cotangents, across, 2 * H, x, along, F, steps);
    products::outer_sums(d_input + 2 * H * F, candidate, across, H, x, along, F, steps);
    products::row_sums(d_biases, own.cotangents, across, 4 * H, steps);
}

template <class T>
static void read_d_states(const latentode_gru& g, const Lanes<T>& lanes, T* d_state) {
    clear(d_state, padded(g.hidden) * lanes_of<T>);
    for (int i = 0; i < lanes.n; ++i)
        for (int64_t u = 0; u < g.hidden; ++u)
            d_state[u * lanes_of<T> + i] = ((const T*)g.d_states)[lanes.series[i] * g.hidden + u];
}

template <class T>
static void backward(const latentode_gru* problem, int thread) {
    const latentode_gru& g = *problem;
    const NoSubnormals mode;
    const Sizes<T> size(g);
    Carver memory{(char*)g.scratch + thread * (g.backward_bytes / g.n_threads), 0};
    const Backward<T> own(g, size, memory);
    const T* weight = (const T*)g.weight_hh;
    const int64_t H = g.hidden, Hp = size.hidden;
    products::pack(
        own.packed, 3 * Hp, H,
        [&](int64_t j, int64_t k) { return k % Hp < H ? weight[(k / Hp * H + k % Hp) * H + j] : (T)0; },
        [](int64_t) { return (T)0; });
    clear(own.gradients, size.gradients());
    own.flow.pack(g, size.flow);
    share<T>(g, thread, [&](int64_t block, int64_t first_slot) {
        const Lanes<T> lanes(g, block);
        const T* slots = (const T*)g.saved + first_slot * size.slot;
        read_d_states(g, lanes, own.d_state);
        for (int64_t end = n_rows<T>(g, block); end > 0 && !products::all_zero(own.d_state, Hp);) {
            const int64_t begin = end > chunk ? end - chunk : 0;
            for (int64_t step = end - 1; step >= begin; --step) {
                T* cotangents = own.cotangents + (step - begin) * size.cotangents;
                unit_cotangents(size, slots + step * size.slot, own.d_state, cotangents);
                if (step == 0) break;  // the first state is 0
                products::product(own.packed, cotangents, 3 * Hp, H, [&](int64_t j, Vector<T> sum) {
                    store(own.d_state + j * lanes_of<T>, load(own.d_state + j * lanes_of<T>) + sum);
                });
                if (size.flow.steps) flow_backward(g, size.flow, own.flow, slots + step * size.slot, own.d_state, cotangents);
            }
            add_to_gradients(size, own, slots + begin * size.slot, end - begin);
            const int64_t skipped = begin == 0 ? 1 : 0;  // nothing flows to the first row
            add_flow_gradients(
                size.flow, own.flow, slots + (begin + skipped) * size.slot, size.slot,
                own.cotangents + skipped * size.cotangents, size.cotangents, end - begin - skipped);
            end = begin;
        }
    });
}

// After all threads: their gradients, one after the other, into the caller's arrays (which it has set to 0).
template <class T>
static void collect(const latentode_gru* problem) {
    const latentode_gru& g = *problem;
    constexpr int L = lanes_of<T>;
    const Sizes<T> size(g);
    const int64_t H = g.hidden, Hp = size.hidden, F = Sizes<T>::n_inputs(g);
    for (int thread = 0; thread < g.n_threads; ++thread) {
        Carver memory{(char*)g.scratch + thread * (g.backward_bytes / g.n_threads), 0};
        const Backward<T> own(g, size, memory);
        if (size.flow.steps) collect_flow(g, size.flow, own.flow);
        const T* recurrent = own.gradients;
        const T *input = recurrent + size.d_recurrent(), *biases = input + size.d_input();
        for (int64_t i = 0; i < 3 * H; ++i) {
            const int64_t row = i / H * Hp + i % H, candidate = i < 2 * H ? row : Hp + row;
            for (int64_t k = 0; k < H; ++k)
                ((T*)g.d_weight_hh)[i * H + k] += recurrent[products::outer_index(row, k, Hp)];
            for (int64_t k = 0; k < F; ++k)
                ((T*)g.d_weight_ih)[i * F + k] += input[products::outer_index(row, k, size.inputs)];
            for (int l = 0; l < L; ++l) {
                ((T*)g.d_bias_hh)[i] += biases[row * L + l];
                ((T*)g.d_bias_ih)[i] += biases[candidate * L + l];
            }
        }
    }
}

template <class T>
static void plan(latentode_gru* problem) {
    latentode_gru& g = *problem;
    const Sizes<T> size(g);
    Carver forward{nullptr, 0}, backward{nullptr, 0};
    Forward<T>(g, size, forward);
    Backward<T>(g, size, backward);
    g.saved_bytes = g.keep ? n_slots<T>(g) * size.slot * (int64_t)sizeof(T) : 0;
    g.forward_bytes = g.n_threads * (int64_t)forward.used;
    g.backward_bytes = g.n_threads * (int64_t)backward.used;
}

}  // namespace gru
