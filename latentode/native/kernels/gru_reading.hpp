// How the series of a batch are divided into blocks of lanes and among threads, and what a block reads in a step.
// Included inside the namespace of an instruction set, after relaxation.hpp.

namespace gru {

constexpr int max_threads = 64;

// Where things stand in a slot and in the cotangents of a step.
template <class T>
struct Sizes {
    static constexpr int64_t L = lanes_of<T>;
    int64_t hidden, inputs, state, reset, update, candidate, recurrent, read, slot, cotangents;
    FlowSizes<T> flow;

    explicit Sizes(const latentode_gru& g) : hidden(padded(g.hidden)), inputs(padded(n_inputs(g))), flow(g) {
        state = 0, reset = hidden * L, update = 2 * reset, candidate = 3 * reset, recurrent = 4 * reset, read = 5 * reset;
        flow.slot = read + inputs * L;
        flow.cotangents = 4 * reset;
        slot = products::odd_vectors<T>(flow.slot + flow.slot_size);
        cotangents = products::odd_vectors<T>(flow.cotangents + flow.cotangents_size);
    }
    static int64_t n_inputs(const latentode_gru& g) { return 2 * g.n_targets + (g.gap_input ? 1 : 0); }
    // Where the state of the step before goes: through the flow, if there is one.
    int64_t entry() const { return flow.steps ? flow.slot : state; }
    int64_t packed_gates(const latentode_gru& g) const { return hidden * (4 + 3 * (n_inputs(g) + g.hidden)); }
    int64_t packed_transpose(const latentode_gru& g) const { return products::packed_size(3 * hidden, g.hidden); }
    // Gradients of a thread: recurrent and input matrix as outer_sums has them, four biases lane by lane.
    int64_t d_recurrent() const { return 3 * hidden * hidden; }
    int64_t d_input() const { return 3 * hidden * inputs; }
    int64_t gradients() const { return d_recurrent() + d_input() + 4 * hidden * L; }
};

template <class T>
static int64_t n_blocks(const latentode_gru& g) {
    return (g.n_series + lanes_of<T> - 1) / lanes_of<T>;
}

template <class T>
static int64_t n_rows(const latentode_gru& g, int64_t block) {
    return g.lengths[g.order[block * lanes_of<T>]];
}

// Calls work(block, first of its slots) for each block of a thread: a block goes to the thread with least to do.
template <class T, class Work>
static void share(const latentode_gru& g, int thread, Work work) {
    int64_t rows[max_threads] = {}, slots = 0;
    for (int64_t block = 0; block < n_blocks<T>(g); ++block) {
        int least = 0;
        for (int other = 1; other < g.n_threads; ++other)
            if (rows[other] < rows[least]) least = other;
        if (least == thread) work(block, slots);
        rows[least] += n_rows<T>(g, block) + 1;
        slots += n_rows<T>(g, block);
    }
}

template <class T>
static int64_t n_slots(const latentode_gru& g) {
    int64_t slots = 0;
    for (int64_t block = 0; block < n_blocks<T>(g); ++block) slots += n_rows<T>(g, block);
    return slots;
}

// ---- reading the batch ----------------------------------------------------------------------------------------------

template <class T>
struct Lanes {
    static constexpr int L = lanes_of<T>;
    int64_t series[L], length[L];
    int n;

    Lanes(const latentode_gru& g, int64_t block) {
        const int64_t left = g.n_series - block * L;
        n = left < L ? (int)left : L;
        for (int i = 0; i < n; ++i) {
            series[i] = g.order[block * L + i];
            length[i] = g.lengths[series[i]];
        }
    }
};

// What the series of a block show in one step.
template <class T>
struct Reading {
    static constexpr int L = lanes_of<T>;
    using Integer = typename Element<Vector<T>>::integer;
    typename Simd<T>::Integers updates;  // all bits of a lane whose state takes part
    int64_t* seen;                       // the inputs that are not 0 in all lanes
    int64_t n_seen;
    T span[L];  // what the flow takes of the time since the row before: half a step's share

    void read(const latentode_gru& g, const Lanes<T>& lanes, int64_t step, T* x) {
        const T* values[L];
        const uint8_t* mask[L];
        T gap[L] = {};
        Integer has_row[L] = {}, has_cell[L] = {};
        clear(span, L);
        int n = lanes.n;
        while (n > 0 && lanes.length[n - 1] <= step) --n;
        for (int i = 0; i < n; ++i) {
            const int64_t series = lanes.series[i], row = g.backwards ? lanes.length[i] - 1 - step : step;
            values[i] = (const T*)g.values + series * g.values_strides[0] + row * g.values_strides[1];
            mask[i] = g.mask + series * g.mask_strides[0] + row * g.mask_strides[1];
            has_row[i] = -1;
            const double since = since_row_before(g, series, row, step);
            gap[i] = (T)since;
            if (g.flow_steps) span[i] = (T)(since / (double)(2 * g.flow_steps));
        }
        n_seen = 0;
        const int64_t D = g.n_targets;
        for (int64_t d = 0; d < D; ++d) {
            Integer value[L] = {}, any = 0;
            T observed[L] = {};
            for (int i = 0; i < n; ++i) {
                const Integer is_observed = mask[i][d * g.mask_strides[2]] ? -1 : 0;
                Integer bits;
                __builtin_memcpy(&bits, values[i] + d * g.values_strides[2], sizeof bits);
                value[i] = bits & is_observed;  // no branch: it would be guessed wrong
                observed[i] = (T)-is_observed;
                has_cell[i] |= is_observed;
                any |= is_observed;
            }
            __builtin_memcpy(x + d * L, value, sizeof value);
            __builtin_memcpy(x + (D + d) * L, observed, sizeof observed);
            if (any) seen[n_seen++] = d * L, seen[n_seen++] = (D + d) * L;
        }
        if (g.gap_input) {
            __builtin_memcpy(x + 2 * D * L, gap, sizeof gap);
            seen[n_seen++] = 2 * D * L;
        }
        const int64_t used = Sizes<T>::n_inputs(g);
        for (int64_t k = used; k < padded(used); ++k) store(x + k * L, Vector<T>{});
        __builtin_memcpy(&updates, g.skip_empty ? has_cell : has_row, sizeof updates);
    }

   private:
    static double since_row_before(const latentode_gru& g, int64_t series, int64_t row, int64_t step) {
        if (step == 0) return 0;
        const double* t = g.times + series * g.times_strides[0];
        const int64_t later = g.backwards ? row + 1 : row;
        return t[later * g.times_strides[1]] - t[(later - 1) * g.times_strides[1]];
    }
};

}  // namespace gru
