// The discrete adjoint: the accepted steps in reverse order, each pulled back through its stages. Included inside the
// namespace of an instruction set, after kept_step.hpp.

// Evaluations and their cotangents that wait to be added to the gradients of the parameters, as many as a nearby cache
// holds: sums over many cost less. They stand one behind the other, the latest first.
template <class T>
struct Pending {
    using V = Vector<T>;
    V *evaluations, *cotangents;  // room for `room` of each
    V* first;                     // the evaluations, here or where they were kept
    int64_t room, count;
};

constexpr int64_t PENDING_BYTES = 160 << 10;
constexpr int64_t PENDING_STEPS = 4;  // at most

template <class T>
static Pending<T> pending_of(const latentode_method& m, const Network<T>& net, Carver& memory) {
    const int64_t each = (m.stages - 1) * (net.evaluation_rows + net.cotangent_rows) * (int64_t)sizeof(Vector<T>);
    const int64_t fitting = least(PENDING_BYTES / each, PENDING_STEPS);
    Pending<T> pending{};
    pending.room = (m.stages - 1) * (fitting < 1 ? 1 : fitting);
    pending.evaluations = memory.take<Vector<T>>(pending.room * net.evaluation_rows);
    pending.cotangents = memory.take<Vector<T>>(pending.room * net.cotangent_rows);
    return pending;
}

template <class T>
struct BackScratch {
    using V = Vector<T>;
    ParameterGradients<T> gradients;
    V *of_y, *of_slope;  // carried from step to step
    V *of_slopes, *of_dense, *of_seen, *total;
    size_t zeros;  // bytes up to here must be 0 at the beginning
    Stages<T> stages;
    Pending<T> pending;
    Polynomials<T> of_polynomials;
};

template <class T>
static BackScratch<T> back_scratch_of(const latentode_solve& p, const Network<T>& net, Carver& memory) {
    using V = Vector<T>;
    const int64_t rows = net.rows();
    BackScratch<T> s{};
    s.gradients = ParameterGradients<T>::of(net, memory);
    s.of_y = memory.take<V>(rows);
    s.of_slope = memory.take<V>(rows);
    s.of_slopes = memory.take<V>(rows * p.method.stages);
    s.of_dense = memory.take<V>(rows * (p.method.degree + 1));
    s.of_seen = memory.take<V>(products::padded(net.n_seen()));
    s.total = memory.take<V>(rows);
    s.of_polynomials = Polynomials<T>::of(p, memory);
    s.stages = stages_of(p, net, memory);
    s.zeros = memory.used;
    s.pending = pending_of(p.method, net, memory);
    return s;
}

template <class T>
static void add_pending(const latentode_cotangents& c, BackScratch<T>& s) {
    Pending<T>& pending = s.pending;
    if (pending.count && c.of_weights) {
        const Network<T>& net = s.stages.net;
        const Vector<T>* cotangents = pending.cotangents + (pending.room - pending.count) * net.cotangent_rows;
        add_parameter_gradients(net, s.gradients, pending.first, cotangents, pending.count);
        if (s.gradients.unsaved >= SUMS_BETWEEN_SAVES) save_sums(net, s.gradients);
    }
    pending.count = 0;
}

// `count` more evaluations wait: those that were kept, or (NULL) some that are to be made where the result says.
template <class T>
static Vector<T>* await(const latentode_cotangents& c, BackScratch<T>& s, int64_t count, Vector<T>* kept) {
    Pending<T>& pending = s.pending;
    const int64_t rows = s.stages.net.evaluation_rows;
    if (pending.count + count > pending.room) add_pending(c, s);
    auto place = [&] { return kept ? kept : pending.evaluations + (pending.room - pending.count - count) * rows; };
    if (pending.count && place() + count * rows != pending.first) add_pending(c, s);
    pending.first = place();
    pending.count += count;
    return pending.first;
}

// Where the cotangents of one of the evaluations that came last to wait go.
template <class T>
INLINE Vector<T>* cotangents_of(const BackScratch<T>& s, int64_t evaluation) {
    const Pending<T>& pending = s.pending;
    return pending.cotangents + (pending.room - pending.count + evaluation) * s.stages.net.cotangent_rows;
}

template <class T>
INLINE void add_of_inputs(const latentode_cotangents& c, const BackScratch<T>& s, const int64_t* row) {
    const Network<T>& net = s.stages.net;
    if (!c.of_inputs) return;
    const Vector<T>* of = s.of_seen + net.dim + net.time_input;
    for (int j = 0; j < lanes_of<T>; ++j)
        for (int i = 0; i < net.n_inputs && row[j] >= 0; ++i) ((T*)c.of_inputs)[row[j] * net.n_inputs + i] += of[i][j];
}

// The evaluations of a step, made again unless they were kept; those of the times need the slopes, which never are.
template <class T>
static Vector<T>* replay(const latentode_solve& p, const latentode_cotangents& c, BackScratch<T>& s, KeptStep<T>& step) {
    Stages<T>& stages = s.stages;
    const int64_t count = p.method.stages - 1;
    if (step.evaluations && !c.of_t0) return await(c, s, count, step.evaluations);
    for (int d = 0; d < stages.net.dim; ++d) {
        stages.y[d] = step.y()[d];
        stages.slopes[d] = step.slope(stages.rows)[d];
    }
    for (int j = 0; j < step.n && stages.net.n_inputs; ++j) load_inputs(p, stages, j, step.row[j]);
    Vector<T>* evaluations = await<T>(c, s, count, nullptr);
    take_stages(p.method, stages, evaluations, stages.net.evaluation_rows, step.t, step.h);
    silence(evaluations, count * stages.net.evaluation_rows, step.taken(step.row));
    return evaluations;
}

// Cotangents of the polynomials of all lanes' steps into `of_dense`; those of the columns that never move go to y0.
// `of_size`: of the sizes of steps that end at the last query time, from those of the query times.
template <class T>
static void gather_answers(
    const latentode_solve& p, const latentode_cotangents& c, BackScratch<T>& s, const KeptStep<T>& step, double* of_size) {
    Stages<T>& stages = s.stages;
    s.of_polynomials.clear_all();
    if (c.of_t0) interpolate<T>(p.method, stages, to_vector<T>(step.h));
    for (int j = 0; j < step.n; ++j) {
        of_size[j] = 0;
        const int64_t row = step.row[j];
        if (step.end[j] == step.first[j]) continue;
        const Asked asked{p.times + row * p.times_stride, p.time_stride, 0, 0, p.t0[row * p.t0_stride], 0};
        const Inside inside{asked, row, step.first[j], step.end[j], step.offset[j], step.h[j]};
        of_answers(p, c, inside, s.of_polynomials, j);
        if (!c.of_t0) continue;
        const double of_h = of_query_times(p, c, inside, stages.polynomials, j);
        of_size[j] = step.last[j] ? of_h : 0;
    }
    for (int64_t k = 0; k <= p.method.degree; ++k) s.of_polynomials.get(k, s.of_dense + k * stages.rows);
}

// Ask for an evaluation of the step that comes next, so that it is near by then.
template <class T>
INLINE void fetch_ahead(const T* evaluations, int64_t number, int64_t rows) {
    if (!evaluations) return;
    const T* evaluation = evaluations + number * rows;
    for (int64_t i = 0; i < rows; ++i) __builtin_prefetch(evaluation + i, 0, 2);
}

// The same for the cotangents of the answers inside that step.
template <class T>
static void fetch_answers_ahead(const latentode_solve& p, const latentode_cotangents& c, const KeptStep<T>& step) {
    const int64_t columns = columns_of(p);
    for (int j = 0; j < step.n; ++j) {
        const T* of_y = (const T*)c.of_y + (step.row[j] * p.n_times + step.first[j]) * columns;
        for (int64_t i = 0; i < (step.end[j] - step.first[j]) * columns; i += 64 / (int64_t)sizeof(T)) __builtin_prefetch(of_y + i);
    }
}

// Sum over d of a[d] b[d], into one number per lane.
template <class T>
INLINE Vector<T> inner(const Vector<T>* a, const Vector<T>* b, int n) {
    Vector<T> total{};
    for (int d = 0; d < n; ++d) total += a[d] * b[d];
    return total;
}

// Cotangents of the slopes of a step from those of its polynomials; added to `of_h`, where that is wanted.
template <class T>
static void through_polynomials(const latentode_method& m, BackScratch<T>& s, Vector<T> h, Vector<T>* of_h) {
    using V = Vector<T>;
    const int64_t rows = s.stages.rows;
    for (int64_t i = 0; i < m.stages; ++i)
        for (int d = 0; d < s.stages.net.dim; ++d) {
            V total{};
            for (int64_t k = 0; k < m.degree; ++k) {
                const T weight = (T)m.interpolant[i * m.degree + k];
                if (weight != 0) total += s.of_dense[(k + 1) * rows + d] * weight;
            }
            if (of_h) *of_h += total * s.stages.slopes[i * rows + d];
            s.of_slopes[i * rows + d] = h * total;
        }
}

// Backwards through one step; `of_y` and `of_slope` of the lanes that took it are those at its end, then at its
// beginning.
template <class T>
static void through_step(const latentode_solve& p, const latentode_cotangents& c, BackScratch<T>& s, KeptStep<T>& step) {
    using V = Vector<T>;
    const latentode_method& m = p.method;
    const Network<T>& net = s.stages.net;
    const int dim = net.dim;
    const int64_t rows = s.stages.rows, stages = m.stages;
    const V* evaluations = replay(p, c, s, step);
    alignas(64) double of_size[step.n];
    gather_answers(p, c, s, step, of_size);
    const V h = to_vector<T>(step.h);
    V of_h{}, of_t{};
    const auto took = step.taken(step.row);
    if (step.before) fetch_answers_ahead(p, c, *step.before);
    through_polynomials(m, s, h, c.of_t0 ? &of_h : nullptr);
    for (int d = 0; d < dim; ++d) {
        s.of_slopes[(stages - 1) * rows + d] += took ? s.of_slope[d] : V{};
        s.total[d] = V{};
    }
    for (int64_t i = stages - 1; i >= 1; --i) {
        V* of_state = s.of_seen;
        if (step.before) fetch_ahead(step.before->evaluations, i - 1, net.evaluation_rows);
        pull_back(
            net, evaluations + (i - 1) * net.evaluation_rows, cotangents_of(s, i - 1), s.of_slopes + i * rows, of_state,
            s.gradients.speed);
        add_of_inputs(c, s, step.row);
        if (net.time_input) {
            of_t += of_state[dim];
            of_h += (T)m.nodes[i] * of_state[dim];
        }
        for (int d = 0; d < dim; ++d) {
            if (i == stages - 1) of_state[d] += took ? s.of_y[d] : V{};
            s.total[d] += of_state[d];
        }
        for (int64_t k = 0; k < i; ++k) {
            const T weight = (T)m.weights[i * stages + k];
            if (weight == 0) continue;
            const V scaled = weight * h;
            for (int d = 0; d < dim; ++d) s.of_slopes[k * rows + d] += scaled * of_state[d];
            if (c.of_t0) of_h += weight * inner<T>(of_state, s.stages.slopes + k * rows, dim);
        }
    }
    for (int d = 0; d < dim; ++d) {
        s.of_y[d] = took ? s.total[d] + s.of_dense[d] : s.of_y[d];
        s.of_slope[d] = took ? s.of_slopes[d] : s.of_slope[d];
    }
    for (int j = 0; j < step.n && c.of_t0; ++j) {
        if (step.row[j] < 0) continue;
        const double of_last = step.last[j] ? of_size[j] + (double)of_h[j] : 0;
        c.of_t0[step.row[j]] += (double)of_t[j] - of_last;
        if (step.last[j]) c.of_times[step.row[j] * p.n_times + step.end[j] - 1] += of_last;
    }
}

// Series that are back at t0 leave their lanes; `of_first` is for the cotangents of their slopes there.
template <class T>
static void leave_lanes(
    const latentode_solve& p, const latentode_cotangents& c, BackScratch<T>& s, const KeptStep<T>& step, T* of_first, int64_t first) {
    const int64_t dim = p.field.dim, columns = columns_of(p);
    for (int j = 0; j < step.n; ++j) {
        if (!step.begins[j]) continue;
        for (int64_t d = 0; d < dim; ++d) {
            ((T*)c.of_y0)[step.row[j] * columns + d] = s.of_y[d][j];
            of_first[(step.row[j] - first) * dim + d] = s.of_slope[d][j];
            s.of_y[d][j] = s.of_slope[d][j] = 0;
        }
    }
}

// Backwards through f(t0, y0) of up to as many series as there are lanes, and into y0; `of_first` has the cotangents of
// their slopes there.
template <class T>
static void through_start(
    const latentode_solve& p, const latentode_steps& steps, const latentode_cotangents& c, BackScratch<T>& s, const T* of_first,
    int64_t row0, int64_t end) {
    Stages<T>& stages = s.stages;
    const int dim = stages.net.dim;
    const int64_t columns = columns_of(p);
    constexpr int n = lanes_of<T>;
    int64_t row[n];  // -1 where nothing was evaluated
    alignas(64) double t[n];
    for (int j = 0; j < n; ++j) {
        row[j] = row0 + j < end && steps.started[row0 + j] ? row0 + j : -1;
        const bool active = row[j] >= 0;
        t[j] = active ? p.t0[row[j] * p.t0_stride] : 0;
        load_inputs(p, stages, j, row[j]);
        for (int d = 0; d < dim; ++d) {
            stages.y[d][j] = active ? ((const T*)p.y0)[row[j] * p.y0_stride + d] : (T)0;
            s.of_slope[d][j] = active ? of_first[(row[j] - row0) * dim + d] : (T)0;
        }
    }
    Vector<T>* evaluation = await<T>(c, s, 1, nullptr);
    see(stages.net, evaluation, stages.y, to_vector<T>(t), stages.inputs);
    evaluate(stages.net, evaluation, stages.slopes);
    silence(evaluation, stages.net.evaluation_rows, KeptStep<T>::taken(row));
    pull_back(stages.net, evaluation, cotangents_of(s, 0), s.of_slope, s.of_seen, s.gradients.speed);
    add_of_inputs(c, s, row);
    for (int j = 0; j < n && row0 + j < end; ++j) {
        const bool active = row[j] >= 0;
        const Asked asked = asked_of(p, row0 + j);
        T* of_y0 = (T*)c.of_y0 + (row0 + j) * columns;
        for (int d = 0; d < dim && active; ++d) of_y0[d] += s.of_seen[d][j];
        if (c.of_t0 && active && stages.net.time_input) c.of_t0[row[j]] += (double)s.of_seen[dim][j];
        const T* of_y = (const T*)c.of_y + (row0 + j) * p.n_times * columns;
        for (int64_t q = 0; q < asked.at_start; ++q, of_y += columns) {
            for (int64_t d = 0; d < columns; ++d) of_y0[d] += of_y[d];
            if (!c.of_t0 || !active) continue;
            T of_time = 0;
            for (int d = 0; d < dim; ++d) of_time += of_y[d] * stages.slopes[d][j];
            c.of_times[row[j] * p.n_times + q] += (double)of_time;
            c.of_t0[row[j]] -= (double)of_time;
        }
    }
}

template <class T>
static void clear_cotangents(const latentode_solve& p, const latentode_cotangents& c, int64_t first, int64_t end) {
    const int64_t n = end - first, columns = columns_of(p), n_inputs = p.field.n_inputs;
    clear((T*)c.of_y0 + first * columns, n * columns);
    if (c.of_inputs) clear((T*)c.of_inputs + first * n_inputs, n * n_inputs);
    if (!c.of_t0) return;
    clear(c.of_t0 + first, n);
    clear(c.of_times + first * p.n_times, n * p.n_times);
}

// Cotangents of the series of a range; those of the parameters stay in `s.gradients`. `of_first` (series, dim) is for
// the cotangents of the slopes at t0.
template <class T>
static void adjoint_range(
    const latentode_solve& p, const latentode_steps& steps, const Range& range, const latentode_cotangents& c,
    BackScratch<T>& s, T* of_first) {
    const int64_t dim = p.field.dim;
    clear_cotangents<T>(p, c, range.first, range.end);
    clear(of_first, (range.end - range.first) * dim);
    for (auto* step = (KeptStep<T>*)range.last; step; step = step->before) {
        through_step(p, c, s, *step);
        leave_lanes(p, c, s, *step, of_first, range.first);
    }
    for (int64_t row = range.first; row < range.end; row += lanes_of<T>)
        through_start(p, steps, c, s, of_first + (row - range.first) * dim, row, range.end);
    add_pending(c, s);
    if (c.of_weights) save_sums(s.stages.net, s.gradients);
}
