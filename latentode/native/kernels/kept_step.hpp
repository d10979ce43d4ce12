// An accepted step as its gradient needs it: those of all lanes that were taken together. Included inside the namespace
// of an instruction set, after stages.hpp.

template <class T>
struct KeptStep {
    using V = Vector<T>;
    static constexpr int n = lanes_of<T>;
    KeptStep* before;
    V* evaluations;  // of its stages but the first, or NULL where they were not kept
    // Of lanes that accepted nothing `row` is -1, all other numbers are 0, and so are their lanes of what follows.
    alignas(64) double t[n], offset[n], h[n];  // of the beginning, the same minus t0, signed size
    int64_t row[n], first[n], end[n];          // the query times [first, end) lie inside
    bool begins[n], last[n];                   // whether it is its series' first; whether it was cut to end at the last query time

    // the lanes that accepted, of `row` here or elsewhere
    static auto taken(const int64_t* row) {
        decltype(V{} < V{}) mask{};
        for (int j = 0; j < n; ++j) mask[j] = row[j] >= 0 ? -1 : 0;
        return mask;
    }

    V* y() { return (V*)(this + 1); }
    V* slope(int64_t rows) { return y() + rows; }  // at the beginning

    void clear_lanes() {
        for (int j = 0; j < n; ++j) {
            t[j] = offset[j] = h[j] = 0;
            row[j] = -1, first[j] = end[j] = 0;
            begins[j] = last[j] = false;
        }
    }

    void note(int lane, const Inside& inside, double begin, bool is_first, bool is_last) {
        t[lane] = begin, offset[lane] = inside.offset, h[lane] = inside.h;
        row[lane] = inside.row, first[lane] = inside.first, end[lane] = inside.end;
        begins[lane] = is_first, last[lane] = is_last;
    }

    static int64_t bytes(int64_t rows) { return (int64_t)(sizeof(KeptStep) + 2 * rows * sizeof(V)); }
};

template <class T>
INLINE int64_t evaluations_bytes(const latentode_method& m, const Network<T>& net) {
    return (m.stages - 1) * net.evaluation_rows * (int64_t)sizeof(Vector<T>);
}

// Evaluations of idle lanes could hold anything, and 0 times anything is not 0: now they hold 0.
template <class V, class Mask>
static void silence(V* evaluations, int64_t vectors, Mask active) {
    for (int64_t i = 0; i < vectors; ++i) evaluations[i] = active ? evaluations[i] : V{};
}

// y and slope of the lanes that accepted.
template <class T, class Mask>
static void keep_step(
    const latentode_method& m, const Stages<T>& s, KeptStep<T>* step, Vector<T>* evaluations, Mask accepted, bool all, Range& range) {
    using V = Vector<T>;
    for (int d = 0; d < s.net.dim; ++d) {
        step->y()[d] = accepted ? s.y[d] : V{};
        step->slope(s.rows)[d] = accepted ? s.slopes[d] : V{};
    }
    if (evaluations && !all) silence(evaluations, (m.stages - 1) * s.net.evaluation_rows, accepted);
    step->before = (KeptStep<T>*)range.last;
    step->evaluations = evaluations;
    range.last = step;
    keep(range.steps, KeptStep<T>::bytes(s.rows));
    if (evaluations) keep(range.evaluations, evaluations_bytes(m, s.net));
}
