// The discrete adjoint: the accepted steps in reverse order, each replayed and pulled back. A lane takes the next
// series as soon as its own is back at t0.

constexpr int64_t SUMS_BETWEEN_SAVES = 256;  // additions of float sums before they are brought to double

template <class T>
struct BackLanes {
    static constexpr int n = lanes_of<T>;
    alignas(64) double t[n], h[n];
    int64_t row[n], record[n];
    const StepHeader* header[n];
    bool active[n];
    Asked asked[n];
    double of_last[n];
};

template <class T>
struct BackScratch {
    using V = Vector<T>;
    Network<T> net;
    Workspace<T> work;
    int rows, padded;
    V *y, *state, *slopes, *dense;
    V *of_y, *of_slope;         // [dim]: carried from step to step
    V *of_slopes, *of_dense;    // [stages][rows], [degree + 1][rows]
    V *total;
    T *polynomials, *of_polynomials;
    BackLanes<T>* lanes;
};

template <class T>
static BackScratch<T> back_scratch_of(const latentode_solve& p, const Network<T>& net, Carver& memory) {
    using V = Vector<T>;
    BackScratch<T> s{};
    s.net = net;
    s.rows = net.rows_out(net.n_layers - 1);
    s.padded = round_up((int)(p.field.dim + p.n_still), 4);
    const size_t stages = p.method.stages, degree = p.method.degree;
    s.y = memory.take<V>(s.rows);
    s.state = memory.take<V>(s.rows);
    s.slopes = memory.take<V>(s.rows * stages);
    s.dense = memory.take<V>(s.rows * degree);
    s.of_y = memory.take<V>(s.rows);
    s.of_slope = memory.take<V>(s.rows);
    s.of_slopes = memory.take<V>(s.rows * stages);
    s.of_dense = memory.take<V>(s.rows * (degree + 1));
    s.total = memory.take<V>(s.rows);
    s.polynomials = memory.take<T>(s.padded * (degree + 1));
    s.of_polynomials = memory.take<T>(s.padded * (degree + 1));
    s.lanes = memory.take<BackLanes<T>>(1);
    s.work = workspace_of(net, (int)stages - 1, true, memory);
    return s;
}

template <class T>
INLINE const T* numbers_of(const StepHeader* header) {
    return (const T*)(header + 1);
}

// Cotangents of a step's polynomials, [degree + 1][padded], from those of the answers inside; with `theta` those of
// the time: of_t0 and of_times are added to, and the cotangent of h is returned.
template <class T, int Degree>
static double of_answers_with(
    const latentode_solve& p, const latentode_cotangents& c, const Asked& asked, int64_t row, int64_t first, int64_t end,
    double offset, double h, bool moves, const T* polynomials, int padded, T* of) {
    using Q = typename Quartet<T>::type;
    const int columns = (int)(p.field.dim + p.n_still), degree = Degree ? Degree : (int)p.method.degree;
    const double per_h = 1 / h;
    double of_h = 0;
    for (int d = 0; d < columns; d += 4) {
        const T* of_y = (const T*)c.of_y + (row * p.n_times + first) * columns + d;
        const int here = columns - d < 4 ? columns - d : 4;
        Columns<T> values{};
        if (c.of_t0) values.load(polynomials + d, degree, padded);
        Q sums[LATENTODE_MAX_DEGREE + 1] = {};
        for (int64_t q = first; q < end; ++q, of_y += columns) {
            const double exact = (asked.time(q) - asked.t0 - offset) * per_h;
            const T theta = (T)exact;
            Q g{};
            if (here == 4)
                __builtin_memcpy(&g, of_y, sizeof g);
            else
                for (int i = 0; i < here; ++i) g[i] = of_y[i];
            Q power = g;
            for (int k = 0; k <= degree; ++k) {
                sums[k] += power;
                power *= theta;
            }
            if (!c.of_t0) continue;
            Q slope{};
            for (int k = degree; k >= 1; --k) slope = values.powers[k] * (T)k + slope * theta;
            const Q part = slope * g;
            const double of_time = (double)(T)(part[0] + part[1] + part[2] + part[3]) * per_h;
            c.of_times[row * p.n_times + q] += of_time;
            c.of_t0[row] -= of_time;
            if (moves) of_h -= of_time * exact;
        }
        for (int k = 0; k <= degree; ++k) __builtin_memcpy(of + k * padded + d, &sums[k], sizeof(Q));
    }
    return of_h;
}

template <class T>
static double of_answers(
    const latentode_solve& p, const latentode_cotangents& c, const Asked& asked, int64_t row, int64_t first, int64_t end,
    double offset, double h, bool moves, const T* polynomials, int padded, T* of) {
    switch (p.method.degree) {
        case 3: return of_answers_with<T, 3>(p, c, asked, row, first, end, offset, h, moves, polynomials, padded, of);
        case 4: return of_answers_with<T, 4>(p, c, asked, row, first, end, offset, h, moves, polynomials, padded, of);
        default: return of_answers_with<T, 0>(p, c, asked, row, first, end, offset, h, moves, polynomials, padded, of);
    }
}

// The next series with accepted steps, from `row` on, into a lane; false where there is none.
template <class T>
static bool refill_back(
    const latentode_solve& p, const latentode_steps& steps, BackScratch<T>& s, int lane, int64_t& row, int64_t end) {
    BackLanes<T>& a = *s.lanes;
    while (row < end && steps.last[row] < 0) ++row;
    a.active[lane] = row < end;
    for (int d = 0; d < s.net.dim; ++d) s.of_y[d][lane] = s.of_slope[d][lane] = 0;
    if (row >= end) return false;
    a.row[lane] = row;
    a.record[lane] = steps.last[row];
    a.asked[lane] = asked_of(p, row);
    ++row;
    return true;
}

// The records under the lanes: their states, slopes and clocks, and the cotangents of their polynomials.
template <class T>
static void load_steps(const latentode_solve& p, const Records& records, BackScratch<T>& s) {
    BackLanes<T>& a = *s.lanes;
    const int dim = s.net.dim;
    for (int j = 0; j < a.n; ++j) {
        a.h[j] = a.t[j] = 0;
        a.header[j] = nullptr;
        for (int copy = 0; s.net.n_inputs && copy < s.work.copies; ++copy)
            see_inputs(p, s.net, s.work.seen(s.net, copy), j, a.active[j] ? a.row[j] : -1);
        if (!a.active[j]) {
            for (int d = 0; d < dim; ++d) s.y[d][j] = s.slopes[d][j] = 0;
            continue;
        }
        const StepHeader* header = a.header[j] = (const StepHeader*)(records.data + a.record[j]);
        const T* numbers = numbers_of<T>(header);
        for (int d = 0; d < dim; ++d) {
            s.y[d][j] = numbers[d];
            s.slopes[d][j] = numbers[dim + d];
        }
        a.h[j] = header->h;
        a.t[j] = a.asked[j].t0 + header->offset;
    }
}

// Cotangents of the polynomials of all lanes' steps into `of_dense`; those of the columns that never move go to y0.
template <class T>
static void gather_answers(const latentode_solve& p, const latentode_cotangents& c, BackScratch<T>& s) {
    BackLanes<T>& a = *s.lanes;
    const int dim = s.net.dim, degree = (int)p.method.degree;
    const int64_t columns = dim + p.n_still;
    clear(s.of_dense, (size_t)s.rows * (degree + 1));
    if (c.of_t0) interpolants<T>(p.method, dim, s.slopes, s.rows, to_vector<T>(a.h), s.dense);
    for (int j = 0; j < a.n; ++j) {
        a.of_last[j] = 0;
        if (!a.active[j]) continue;
        const StepHeader& step = *a.header[j];
        if (step.end == step.first) continue;
        if (c.of_t0) polynomials_of_lane(p, a.row[j], j, s.y, s.dense, s.rows, s.padded, s.polynomials);
        a.of_last[j] = of_answers(
            p, c, a.asked[j], a.row[j], step.first, step.end, step.offset, step.h, step.last != 0, s.polynomials, s.padded,
            s.of_polynomials);
        const T* of = s.of_polynomials;
        for (int k = 0; k <= degree; ++k, of += s.padded)
            for (int d = 0; d < dim; ++d) s.of_dense[k * s.rows + d][j] = of[d];
        for (int64_t d = dim; d < columns; ++d) ((T*)c.of_y0)[a.row[j] * columns + d] += s.of_polynomials[d];
    }
}

template <class T>
INLINE void add_of_inputs(const latentode_cotangents& c, BackScratch<T>& s) {
    if (!c.of_inputs) return;
    const Vector<T>* of = s.work.of_seen + s.net.dim + s.net.time_input;
    for (int j = 0; j < lanes_of<T>; ++j)
        if (s.lanes->active[j])
            for (int i = 0; i < s.net.n_inputs; ++i) ((T*)c.of_inputs)[s.lanes->row[j] * s.net.n_inputs + i] += of[i][j];
}

// Sum over d of a[d] b[d], into one number per lane.
template <class T>
INLINE Vector<T> inner(const Vector<T>* a, const Vector<T>* b, int n) {
    Vector<T> total{};
    for (int d = 0; d < n; ++d) total += a[d] * b[d];
    return total;
}

// Backwards through one step of every lane; `of_y` and `of_slope` are those at its end, then at its beginning.
template <class T>
static void through_step(const latentode_solve& p, const latentode_cotangents& c, BackScratch<T>& s) {
    using V = Vector<T>;
    BackLanes<T>& a = *s.lanes;
    const latentode_method& m = p.method;
    const int dim = s.net.dim, rows = s.rows, stages = (int)m.stages, degree = (int)m.degree;
    const V h = to_vector<T>(a.h);
    V of_h{}, of_t{};
    for (int i = 0; i < stages; ++i)
        for (int d = 0; d < dim; ++d) {
            V total{};
            for (int k = 0; k < degree; ++k) {
                const T weight = (T)m.interpolant[i * degree + k];
                if (weight != 0) total += s.of_dense[(k + 1) * rows + d] * weight;
            }
            if (c.of_t0) of_h += total * s.slopes[i * rows + d];
            s.of_slopes[i * rows + d] = h * total + (i == stages - 1 ? s.of_slope[d] : V{});
        }
    for (int i = stages - 1; i >= 1; --i) {
        const double* weights = m.weights + i * stages;
        pull_back(s.net, s.work, i - 1, s.of_slopes + i * rows);
        V* of_state = s.work.of_seen;
        add_of_inputs(c, s);
        if (s.net.time_input) {
            of_t += of_state[dim];
            of_h += (T)m.nodes[i] * of_state[dim];
        }
        for (int d = 0; d < dim; ++d) {
            if (i == stages - 1) of_state[d] += s.of_y[d];
            s.total[d] = i == stages - 1 ? of_state[d] : s.total[d] + of_state[d];
        }
        for (int k = 0; k < i; ++k) {
            const T weight = (T)weights[k];
            if (weight == 0) continue;
            const V scaled = weight * h;
            for (int d = 0; d < dim; ++d) s.of_slopes[k * rows + d] += scaled * of_state[d];
            if (c.of_t0) of_h += weight * inner<T>(of_state, s.slopes + k * rows, dim);
        }
    }
    for (int d = 0; d < dim; ++d) {
        s.of_y[d] = s.total[d] + s.of_dense[d];
        s.of_slope[d] = s.of_slopes[d];
    }
    if (!c.of_t0) return;
    for (int j = 0; j < a.n; ++j) {
        if (!a.active[j]) continue;
        const double of_size = a.header[j]->last ? a.of_last[j] + (double)of_h[j] : 0;
        c.of_t0[a.row[j]] += (double)of_t[j] - of_size;
        c.of_times[a.row[j] * p.n_times + a.asked[j].n - 1] += of_size;
    }
}

template <class T>
static void add_step_gradients(const latentode_cotangents& c, BackScratch<T>& s, int n) {
    if (!c.of_weights) return;
    add_parameter_gradients(s.net, s.work, 0, n);
    if (++s.work.unsaved >= SUMS_BETWEEN_SAVES) save_sums(s.net, s.work);
}

// Backwards through f(t0, y0) of up to as many series as there are lanes, and into y0. The cotangents of the first
// state and slope of each series stand in `of_y0` and `of_first`.
template <class T>
static void through_start(
    const latentode_solve& p, const latentode_steps& steps, const latentode_cotangents& c, BackScratch<T>& s, const T* of_first,
    int64_t row0, int64_t end) {
    using V = Vector<T>;
    BackLanes<T>& a = *s.lanes;
    const int dim = s.net.dim;
    const int64_t columns = dim + p.n_still;
    V* seen = s.work.seen(s.net, 0);
    for (int j = 0; j < a.n; ++j) {
        const int64_t row = row0 + j;
        a.active[j] = row < end && steps.last[row] != NOT_STARTED;
        a.t[j] = a.active[j] ? p.t0[row * p.t0_stride] : 0;
        a.row[j] = row;
        see_inputs(p, s.net, seen, j, a.active[j] ? row : -1);
        for (int d = 0; d < dim; ++d) {
            s.y[d][j] = a.active[j] ? ((const T*)p.y0)[row * p.y0_stride + d] : (T)0;
            s.of_slope[d][j] = a.active[j] ? of_first[(row - row0) * dim + d] : (T)0;
        }
    }
    see(s.net, seen, s.y, to_vector<T>(a.t));
    evaluate(s.net, s.work, 0, s.slopes);
    pull_back(s.net, s.work, 0, s.of_slope);
    add_of_inputs(c, s);
    add_step_gradients(c, s, 1);
    for (int j = 0; j < a.n; ++j) {
        const int64_t row = row0 + j;
        if (row >= end) break;
        const Asked asked = asked_of(p, row);
        T* of_y0 = (T*)c.of_y0 + row * columns;
        if (a.active[j])
            for (int d = 0; d < dim; ++d) of_y0[d] += s.work.of_seen[d][j];
        if (c.of_t0 && a.active[j] && s.net.time_input) c.of_t0[row] += (double)s.work.of_seen[dim][j];
        const T* of_y = (const T*)c.of_y + row * p.n_times * columns;
        for (int64_t q = 0; q < asked.at_start; ++q, of_y += columns) {
            for (int64_t d = 0; d < columns; ++d) of_y0[d] += of_y[d];
            if (!c.of_t0 || !a.active[j]) continue;
            T of_time = 0;
            for (int d = 0; d < dim; ++d) of_time += of_y[d] * s.slopes[d][j];
            c.of_times[row * p.n_times + q] += (double)of_time;
            c.of_t0[row] -= (double)of_time;
        }
    }
}

// Cotangents of the series [first, end); those of the parameters stay in `s.work`. `of_first` (end - first, dim) is
// for the cotangents of the slopes at t0.
template <class T>
static void adjoint_range(
    const latentode_solve& p, const latentode_steps& steps, const Records& records, const latentode_cotangents& c,
    BackScratch<T>& s, T* of_first, int64_t first, int64_t end) {
    BackLanes<T>& a = *s.lanes;
    const int dim = s.net.dim;
    const int64_t columns = dim + p.n_still;
    clear((T*)c.of_y0 + first * columns, (size_t)(end - first) * columns);
    clear(of_first, (size_t)(end - first) * dim);
    if (c.of_inputs) clear((T*)c.of_inputs + first * s.net.n_inputs, (size_t)(end - first) * s.net.n_inputs);
    if (c.of_t0) {
        clear(c.of_t0 + first, end - first);
        clear(c.of_times + first * p.n_times, (size_t)(end - first) * p.n_times);
    }
    for (int j = 0; j < a.n; ++j) a.active[j] = false;
    for (int64_t row = first;;) {
        bool any = false;
        for (int j = 0; j < a.n; ++j) any = (a.active[j] || refill_back(p, steps, s, j, row, end)) || any;
        if (!any) break;
        load_steps(p, records, s);
        take_stages(p.method, s.net, s.work, s.y, s.state, s.slopes, s.rows, a.t, a.h, true);
        gather_answers(p, c, s);
        through_step(p, c, s);
        add_step_gradients(c, s, (int)p.method.stages - 1);
        for (int j = 0; j < a.n; ++j) {
            if (!a.active[j]) continue;
            a.record[j] = a.header[j]->previous;
            if (a.record[j] >= 0) continue;
            a.active[j] = false;
            for (int d = 0; d < dim; ++d) {
                ((T*)c.of_y0)[a.row[j] * columns + d] = s.of_y[d][j];
                of_first[(a.row[j] - first) * dim + d] = s.of_slope[d][j];
            }
        }
    }
    for (int64_t row = first; row < end; row += lanes_of<T>)
        through_start(p, steps, c, s, of_first + (row - first) * dim, row, end);
    if (c.of_weights) save_sums(s.net, s.work);
}
