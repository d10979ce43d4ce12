// The integration loop: a lane takes the next series as soon as its own is done, so that nobody waits for a slow one.
//
// The same decisions as those of latentode.solvers.integrate, in the same arithmetic up to rounding.

constexpr int64_t NOT_STARTED = -2;

// Polynomials are evaluated four columns at a time.
template <class T>
struct Quartet;
template <>
struct Quartet<float> {
    using type = float __attribute__((vector_size(16)));
};
template <>
struct Quartet<double> {
    using type = double __attribute__((vector_size(32)));
};

INLINE bool finite(double x) { return x - x == 0; }
INLINE float root(float x) { return __builtin_sqrtf(x); }
INLINE double root(double x) { return __builtin_sqrt(x); }

template <class T>
INLINE T smallest_normal() {
    return sizeof(T) == 4 ? (T)1.17549435e-38 : (T)2.2250738585072014e-308;
}

// Query times of a series.
struct Asked {
    const double* times;
    int64_t stride, n, at_start;  // of n query times the first `at_start` equal t0
    double t0, direction;

    double time(int64_t q) const { return times[q * stride]; }
    double distance(int64_t q) const { return (time(q) - t0) * direction; }
};

INLINE Asked asked_of(const latentode_solve& p, int64_t row) {
    Asked asked{p.times + row * p.times_stride, p.time_stride, 0, 0, p.t0[row * p.t0_stride], 1.0};
    while (asked.n < p.n_times && asked.time(asked.n) == asked.time(asked.n)) ++asked.n;
    if (asked.n && asked.time(asked.n - 1) < asked.t0) asked.direction = -1.0;
    while (asked.at_start < asked.n && asked.time(asked.at_start) == asked.t0) ++asked.at_start;
    return asked;
}

// One series per lane: where they are, and how they go on.
template <class T>
struct Lanes {
    using V = Vector<T>;
    static constexpr int n = lanes_of<T>;
    alignas(64) double elapsed[n], span[n], h[n], past[n], before_past[n];
    alignas(64) double trial[n], signed_h[n], t[n], reached[n], ratio[n], base[n], power[n], momentum[n], damping[n];
    int64_t row[n], next[n], accepted[n], attempts[n], record[n];
    bool active[n], last[n], accept[n];
    Asked asked[n];
};

// Series whose slope at t0 and first step are known, waiting for a lane.
template <class T>
struct Waiting {
    static constexpr int n = lanes_of<T>;
    int64_t row[n];
    double h[n], span[n];
    Asked asked[n];
    Vector<T>*y, *slope;  // [dim]: lane i is series i
    int count, next;
};

template <class T>
INLINE T still_column(const latentode_solve& p, int64_t row, int64_t d) {
    return ((const T*)p.y0)[row * p.y0_stride + p.field.dim + d];
}

// Sum over the columns that never move of (y / tolerance)²; with the number of columns it makes root mean squares
// those of the whole state.
template <class T>
static T still_size(const latentode_solve& p, int64_t row) {
    T total = 0;
    for (int64_t d = 0; d < p.n_still; ++d) {
        const T y = still_column<T>(p, row, d);
        T scale = (T)p.controller.atol + (T)p.controller.rtol * __builtin_fabs(y);
        if (scale < smallest_normal<T>()) scale = smallest_normal<T>();
        total += (y / scale) * (y / scale);
    }
    return total;
}

// Polynomials of one lane's step, [degree + 1][columns], columns padded to a multiple of four.
template <class T>
static void polynomials_of_lane(
    const latentode_solve& p, int64_t row, int lane, const Vector<T>* y, const Vector<T>* dense, int rows, int padded, T* out) {
    const int dim = (int)p.field.dim, degree = (int)p.method.degree;
    for (int k = 0; k <= degree; ++k, out += padded) {
        const Vector<T>* from = k ? dense + (k - 1) * rows : y;
        for (int d = 0; d < dim; ++d) out[d] = from[d][lane];
        for (int d = dim; d < padded; ++d)
            out[d] = k == 0 && d < dim + p.n_still ? still_column<T>(p, row, d - dim) : (T)0;
    }
}

// Four columns of the polynomials, in registers.
template <class T>
struct Columns {
    using Q = typename Quartet<T>::type;
    Q powers[LATENTODE_MAX_DEGREE + 1];

    __attribute__((always_inline)) void load(const T* polynomials, int degree, int padded) {
        for (int k = 0; k <= degree; ++k) __builtin_memcpy(&powers[k], polynomials + k * padded, sizeof(Q));
    }
};

// Answers to the query times [first, end) of a series inside one step.
template <class T, int Degree>
static void answer_with(
    const latentode_solve& p, const Asked& asked, int64_t row, int64_t first, int64_t end, double offset, double h,
    const T* polynomials, int padded) {
    using Q = typename Quartet<T>::type;
    const int columns = (int)(p.field.dim + p.n_still), degree = Degree ? Degree : (int)p.method.degree;
    const double per_h = 1 / h;
    for (int d = 0; d < columns; d += 4) {
        Columns<T> c;
        c.load(polynomials + d, degree, padded);
        T* y = (T*)p.y + (row * p.n_times + first) * columns + d;
        const int here = columns - d < 4 ? columns - d : 4;
        for (int64_t q = first; q < end; ++q, y += columns) {
            const T theta = (T)((asked.time(q) - asked.t0 - offset) * per_h);
            Q value = c.powers[degree];
            for (int k = degree - 1; k >= 0; --k) value = c.powers[k] + value * theta;
            if (here == 4)
                __builtin_memcpy(y, &value, sizeof value);
            else
                for (int i = 0; i < here; ++i) y[i] = value[i];
        }
    }
}

template <class T>
static void answer(
    const latentode_solve& p, const Asked& asked, int64_t row, int64_t first, int64_t end, double offset, double h,
    const T* polynomials, int padded) {
    switch (p.method.degree) {  // the usual ones as constants, so that their coefficients stay in registers
        case 3: return answer_with<T, 3>(p, asked, row, first, end, offset, h, polynomials, padded);
        case 4: return answer_with<T, 4>(p, asked, row, first, end, offset, h, polynomials, padded);
        default: return answer_with<T, 0>(p, asked, row, first, end, offset, h, polynomials, padded);
    }
}

template <class T>
static void leave_unanswered(const latentode_solve& p, int64_t row, int64_t first) {
    const int64_t columns = p.field.dim + p.n_still;
    T* y = (T*)p.y + row * p.n_times * columns;
    const T unknown = (T)__builtin_nan("");
    for (int64_t i = first * columns; i < p.n_times * columns; ++i) y[i] = unknown;
}

// The field at vectors of states, with the inputs of the series in the lanes.
template <class T>
INLINE void see(const Network<T>& net, Vector<T>* seen, const Vector<T>* y, Vector<T> t) {
    for (int d = 0; d < net.dim; ++d) seen[d] = y[d];
    if (net.time_input) seen[net.dim] = t;
}

template <class T>
INLINE void see_inputs(const latentode_solve& p, const Network<T>& net, Vector<T>* seen, int lane, int64_t row) {
    Vector<T>* place = seen + net.dim + net.time_input;
    for (int i = 0; i < net.n_inputs; ++i)
        place[i][lane] = row < 0 ? (T)0 : ((const T*)p.inputs)[row * p.inputs_stride + i];
}

template <class T>
INLINE Vector<T> to_vector(const double* x) {
    Vector<T> y{};
    for (int j = 0; j < lanes_of<T>; ++j) y[j] = (T)x[j];
    return y;
}

template <class T>
struct Scratch {
    using V = Vector<T>;
    Network<T> net;
    Workspace<T> work;
    V *y, *state, *slopes, *dense;  // slopes: [stages][rows]
    int rows, padded;
    T* polynomials;
    Waiting<T> waiting;
    V* trial;
    Lanes<T>* lanes;
};

template <class T>
static Scratch<T> scratch_of(const latentode_solve& p, const Network<T>& net, Carver& memory) {
    using V = Vector<T>;
    Scratch<T> s{};
    s.net = net;
    s.rows = net.rows_out(net.n_layers - 1);
    s.padded = round_up((int)(p.field.dim + p.n_still), 4);
    s.y = memory.take<V>(s.rows);
    s.state = memory.take<V>(s.rows);
    s.slopes = memory.take<V>((size_t)s.rows * p.method.stages);
    s.dense = memory.take<V>((size_t)s.rows * p.method.degree);
    s.trial = memory.take<V>(s.rows);
    s.waiting.y = memory.take<V>(s.rows);
    s.waiting.slope = memory.take<V>(s.rows);
    s.polynomials = memory.take<T>((size_t)s.padded * (p.method.degree + 1));
    s.lanes = memory.take<Lanes<T>>(1);
    s.work = workspace_of(net, 1, false, memory);
    return s;
}

// Tolerance atol + rtol |y|, as latentode.solvers.step_size has it.
template <class T>
INLINE Vector<T> tolerance(const latentode_controller& c, Vector<T> size) {
    return at_least(size * (T)c.rtol + (T)c.atol, splat<Vector<T>>(smallest_normal<T>()));
}

// First step sizes of the series in the lanes, from Hairer, Nørsett & Wanner, II.4, in a unit of time of their own.
template <class T>
static void first_steps(const latentode_solve& p, Scratch<T>& s, const bool* moving, const int64_t* row, const Asked* asked) {
    using V = Vector<T>;
    Waiting<T>& w = s.waiting;
    const latentode_controller& c = p.controller;
    constexpr int n = lanes_of<T>;
    if (!c.adaptive || c.first_step == c.first_step) {
        for (int j = 0; j < n; ++j) w.h[j] = c.adaptive ? c.first_step : c.step_size;
    } else {
        const T columns = (T)(p.field.dim + p.n_still);
        V size{}, speed{}, bend{};
        for (int j = 0; j < n; ++j)
            if (moving[j]) size[j] = still_size<T>(p, row[j]);
        for (int d = 0; d < s.net.dim; ++d) {
            const V scale = tolerance<T>(c, absolute(w.y[d]));
            size += (w.y[d] / scale) * (w.y[d] / scale);
            speed += (w.slope[d] / scale) * (w.slope[d] / scale);
        }
        alignas(64) double unit[n], way[n], t[n];
        for (int j = 0; j < n; ++j) {
            const T of_size = root((T)(size[j] / columns)), of_speed = root((T)(speed[j] / columns));
            const T own = (of_size < 100 ? (T)100 : of_size) / of_speed;
            unit[j] = (double)own < w.span[j] ? (double)own : w.span[j];
            way[j] = 0.01 * unit[j] * asked[j].direction;
            t[j] = asked[j].t0 + way[j];
            if (!moving[j]) way[j] = t[j] = 0;
        }
        const V small = to_vector<T>(way);
        for (int d = 0; d < s.net.dim; ++d) s.state[d] = w.y[d] + small * w.slope[d];
        see(s.net, s.work.seen(s.net, 0), s.state, to_vector<T>(t));
        evaluate(s.net, s.work, 0, s.trial);
        for (int d = 0; d < s.net.dim; ++d) {
            const V scale = tolerance<T>(c, absolute(w.y[d]));
            const V change = (s.trial[d] - w.slope[d]) / scale;
            bend += change * change;
        }
        alignas(64) double fastest[n], power[n];
        for (int j = 0; j < n; ++j) {
            const T of_speed = root((T)(speed[j] / columns)), of_bend = root((T)(bend[j] / columns)) / (T)0.01;
            fastest[j] = unit[j] * (double)(of_speed > of_bend ? of_speed : of_bend);
            if (!moving[j]) fastest[j] = 1;
        }
        alignas(64) double normal[n];
        for (int j = 0; j < n; ++j) normal[j] = fastest[j] <= 1e-15 ? 1.0 : fastest[j] > 1e300 ? 1e300 : fastest[j];
        powers(normal, -1 / c.order, power, n);
        for (int j = 0; j < n; ++j) {
            double fraction = fastest[j] <= 1e-15 ? 0.01 : power[j];
            if (fraction > 1) fraction = 1;
            const double h = unit[j] * fraction;
            w.h[j] = h == h ? h : 1e-6;
            if (moving[j]) p.n_evals[row[j]] += 1;
        }
    }
    if (!c.adaptive) return;
    for (int j = 0; j < n; ++j) w.h[j] = w.h[j] < c.min_step ? c.min_step : w.h[j] > c.max_step ? c.max_step : w.h[j];
}

// Slopes and first steps of the next series, from `row0` on; those that have somewhere to go wait for a lane.
template <class T>
static void prepare(const latentode_solve& p, Scratch<T>& s, int64_t row0, int64_t end, int64_t* last_record) {
    using V = Vector<T>;
    constexpr int n = lanes_of<T>;
    Waiting<T>& w = s.waiting;
    const int dim = s.net.dim;
    const int64_t columns = dim + p.n_still;
    V* seen = s.work.seen(s.net, 0);
    alignas(64) double t[n];
    bool wanted[n], moving[n];
    int64_t row[n];
    Asked asked[n];
    for (int d = 0; d < dim; ++d) w.y[d] = V{};
    for (int j = 0; j < n; ++j) {
        row[j] = row0 + j < end ? row0 + j : -1;
        wanted[j] = moving[j] = false;
        t[j] = 0;
        asked[j] = Asked{};
        if (row[j] >= 0) {
            asked[j] = asked_of(p, row[j]);
            const T* y0 = (const T*)p.y0 + row[j] * p.y0_stride;
            wanted[j] = asked[j].n > 0;
            for (int64_t d = 0; d < columns; ++d) wanted[j] = wanted[j] && finite(y0[d]);
            T* y = (T*)p.y + row[j] * p.n_times * columns;
            for (int64_t q = 0; q < asked[j].at_start; ++q)
                for (int64_t d = 0; d < columns; ++d) *y++ = y0[d];
            if (wanted[j]) {
                for (int d = 0; d < dim; ++d) w.y[d][j] = y0[d];
                t[j] = asked[j].t0;
            }
        }
        see_inputs(p, s.net, seen, j, wanted[j] ? row[j] : -1);
    }
    see(s.net, seen, w.y, to_vector<T>(t));
    evaluate(s.net, s.work, 0, w.slope);
    bool any = false;
    for (int j = 0; j < n; ++j) {
        if (row[j] < 0) continue;
        bool started = wanted[j];
        for (int d = 0; d < dim; ++d) started = started && finite(w.slope[d][j]);
        const bool ahead = asked[j].n > asked[j].at_start;
        moving[j] = started && ahead;
        any = any || moving[j];
        p.status[row[j]] = ahead && !started ? LATENTODE_NON_FINITE : LATENTODE_SUCCESS;
        p.t_reached[row[j]] = asked[j].t0;
        p.n_steps[row[j]] = p.n_accepted[row[j]] = 0;
        p.n_evals[row[j]] = wanted[j];
        if (last_record) last_record[row[j]] = started ? -1 : NOT_STARTED;
        if (!moving[j]) leave_unanswered<T>(p, row[j], asked[j].at_start);
    }
    for (int j = 0; j < n; ++j) {
        if (moving[j]) {
            w.span[j] = asked[j].distance(asked[j].n - 1);
            continue;
        }
        w.span[j] = 0;
        for (int d = 0; d < dim; ++d) w.y[d][j] = w.slope[d][j] = 0;
    }
    w.count = n;
    w.next = 0;
    if (any) first_steps(p, s, moving, row, asked);
    for (int j = 0; j < n; ++j) {
        w.row[j] = moving[j] ? row[j] : -1;
        w.asked[j] = asked[j];
    }
}

// Put the next waiting series into a lane; false where there is none any more.
template <class T>
static bool refill(
    const latentode_solve& p, Scratch<T>& s, int lane, int64_t& row0, int64_t end, int64_t* last_record) {
    Waiting<T>& w = s.waiting;
    for (;;) {
        while (w.next < w.count && w.row[w.next] < 0) ++w.next;
        if (w.next < w.count) break;
        if (row0 >= end) return false;
        prepare(p, s, row0, end, last_record);
        row0 += lanes_of<T>;
    }
    Lanes<T>& a = *s.lanes;
    const int from = w.next++;
    a.row[lane] = w.row[from];
    a.asked[lane] = w.asked[from];
    a.span[lane] = w.span[from];
    a.h[lane] = w.h[from];
    a.elapsed[lane] = 0;
    a.past[lane] = a.before_past[lane] = 1;
    a.next[lane] = w.asked[from].at_start;
    a.accepted[lane] = a.attempts[lane] = 0;
    a.record[lane] = -1;
    a.active[lane] = true;
    for (int d = 0; d < s.net.dim; ++d) {
        s.y[d][lane] = w.y[d][from];
        s.slopes[d][lane] = w.slope[d][from];
    }
    return true;
}

// An idle lane computes on zeros.
template <class T>
static void empty(Scratch<T>& s, int lane) {
    Lanes<T>& a = *s.lanes;
    a.active[lane] = false;
    a.elapsed[lane] = a.span[lane] = a.h[lane] = 0;
    a.asked[lane] = Asked{};
    for (int d = 0; d < s.net.dim; ++d) s.y[d][lane] = s.slopes[d][lane] = 0;
}

// Stages 1 to S - 1 of a step, into `slopes`; the last state is left in `state`.
template <class T>
static void take_stages(
    const latentode_method& m, const Network<T>& net, const Workspace<T>& work, const Vector<T>* y, Vector<T>* state,
    Vector<T>* slopes, int rows, const double* t, const double* signed_h, bool keep) {
    using V = Vector<T>;
    const V h = to_vector<T>(signed_h);
    alignas(64) double at[lanes_of<T>];
    for (int i = 1; i < m.stages; ++i) {
        const double* weights = m.weights + i * m.stages;
        for (int j = 0; j < lanes_of<T>; ++j) at[j] = t[j] + m.nodes[i] * signed_h[j];
        for (int d = 0; d < net.dim; ++d) {
            V total{};
            for (int k = 0; k < i; ++k)
                if (weights[k] != 0) total += slopes[k * rows + d] * (T)weights[k];
            state[d] = y[d] + h * total;
        }
        const int copy = keep ? i - 1 : 0;
        see(net, work.seen(net, copy), state, to_vector<T>(at));
        evaluate(net, work, copy, slopes + i * rows);
    }
}

template <class T>
static void interpolants(const latentode_method& m, int dim, const Vector<T>* slopes, int rows, Vector<T> h, Vector<T>* dense) {
    for (int k = 0; k < m.degree; ++k)
        for (int d = 0; d < dim; ++d) {
            Vector<T> total{};
            for (int i = 0; i < m.stages; ++i) {
                const T weight = (T)m.interpolant[i * m.degree + k];
                if (weight != 0) total += slopes[i * rows + d] * weight;
            }
            dense[k * rows + d] = h * total;
        }
}

// Error over tolerance of a step; for fixed steps 0, or NaN where the new state or slope is not finite.
template <class T>
static void error_ratios(const latentode_solve& p, Scratch<T>& s, Vector<T> h, double* ratio) {
    using V = Vector<T>;
    const latentode_method& m = p.method;
    V total{};
    if (p.controller.adaptive) {
        for (int d = 0; d < s.net.dim; ++d) {
            V error{};
            for (int i = 0; i < m.stages; ++i)
                if (m.error[i] != 0) error += s.slopes[i * s.rows + d] * (T)m.error[i];
            const V part = h * error / tolerance<T>(p.controller, larger(absolute(s.y[d]), absolute(s.state[d])));
            total += part * part;
        }
        const T columns = (T)(p.field.dim + p.n_still);
        for (int j = 0; j < lanes_of<T>; ++j) ratio[j] = root((T)(total[j] / columns));
        return;
    }
    const V* slope = s.slopes + (m.stages - 1) * s.rows;
    for (int d = 0; d < s.net.dim; ++d) total += (s.state[d] - s.state[d]) + (slope[d] - slope[d]);  // 0 or NaN
    for (int j = 0; j < lanes_of<T>; ++j) ratio[j] = total[j];
}

// Whether each lane accepts its step, and the size of the next one.
template <class T>
static void decide(const latentode_controller& c, Lanes<T>& a) {
    constexpr int n = lanes_of<T>;
    if (!c.adaptive) {
        for (int j = 0; j < n; ++j) {
            a.accept[j] = a.active[j] && finite(a.ratio[j]);
            a.h[j] = a.active[j] ? c.step_size : 0;
        }
        return;
    }
    for (int j = 0; j < n; ++j) {
        if (!a.active[j]) a.ratio[j] = 1;
        a.base[j] = a.ratio[j] < 1e-10 ? 1e-10 : a.ratio[j] > 1e300 ? 1e300 : a.ratio[j];
    }
    powers(a.base, -c.alpha, a.power, n);
    powers(a.past, c.beta, a.momentum, n);
    if (c.gamma != 0) powers(a.before_past, -c.gamma, a.damping, n);
    for (int j = 0; j < n; ++j) {
        const double ratio = a.ratio[j];
        bool accept = ratio <= 1;
        if (c.min_step > 0) accept = accept || (a.trial[j] <= 1.01 * c.min_step && finite(ratio));
        double factor = c.safety * a.power[j];
        if (accept) {
            factor *= a.momentum[j] * (c.gamma != 0 ? a.damping[j] : 1);
            factor = factor < c.smallest_factor ? c.smallest_factor : factor > c.largest_factor ? c.largest_factor : factor;
            a.before_past[j] = a.past[j];
            a.past[j] = a.base[j] < 1e-4 ? 1e-4 : a.base[j];
        } else {
            factor = factor > c.smallest_factor ? factor : c.smallest_factor;  // also for NaN
            if (factor > 1) factor = 1;
        }
        double h = a.trial[j] * factor;
        if (h > c.max_step) h = c.max_step;
        if (finite(ratio) && h < c.min_step) h = c.min_step;
        a.accept[j] = accept && a.active[j];
        a.h[j] = a.active[j] ? h : 0;
    }
}

// Remember an accepted step. False where memory ran out.
template <class T>
static bool keep_step(const Scratch<T>& s, int lane, int64_t end, Records& records) {
    Lanes<T>& a = *s.lanes;
    const int dim = s.net.dim;
    const int64_t size = (int64_t)(sizeof(StepHeader) + (2 * dim * sizeof(T) + 7) / 8 * 8);
    if (records.used + size > records.capacity && !grow(records, size)) return false;
    char* place = records.data + records.used;
    StepHeader* header = (StepHeader*)place;
    header->offset = a.asked[lane].direction * a.elapsed[lane];
    header->h = a.signed_h[lane];
    header->previous = a.record[lane];
    header->first = a.next[lane];
    header->end = end;
    header->last = a.last[lane];
    T* numbers = (T*)(place + sizeof(StepHeader));
    for (int d = 0; d < dim; ++d) {
        numbers[d] = s.y[d][lane];
        numbers[dim + d] = s.slopes[d][lane];
    }
    a.record[lane] = records.used;
    records.used += size;
    return true;
}

// Note a series that is done, or that cannot go on; true where it leaves its lane.
template <class T>
static bool retire(const latentode_solve& p, const Lanes<T>& a, int j) {
    const bool adaptive = p.controller.adaptive;
    const bool done = a.elapsed[j] >= a.span[j];
    const double t = a.asked[j].t0 + a.asked[j].direction * a.elapsed[j];
    bool stuck = adaptive ? a.elapsed[j] + a.h[j] <= a.elapsed[j] : !a.accept[j];
    if (adaptive && !a.accept[j]) {
        stuck = stuck || a.h[j] <= 8 * 2.220446049250313e-16 * __builtin_fabs(t);
        stuck = stuck || (!finite(a.ratio[j]) && a.h[j] <= 1e-14 * a.span[j]);
    }
    if (!done && !stuck && a.attempts[j] < p.controller.max_steps) return false;
    const int64_t row = a.row[j];
    const int failure = finite(a.ratio[j]) ? LATENTODE_STEP_UNDERFLOW : LATENTODE_NON_FINITE;
    p.status[row] = done ? LATENTODE_SUCCESS : stuck ? failure : LATENTODE_TOO_MANY_STEPS;
    p.t_reached[row] = t;
    p.n_steps[row] = a.attempts[j];
    p.n_accepted[row] = a.accepted[j];
    p.n_evals[row] += a.attempts[j] * (p.method.stages - 1);
    leave_unanswered<T>(p, row, a.next[j]);
    return true;
}

// Move a lane that accepted its step; false where memory ran out.
template <class T>
static bool accept_step(const latentode_solve& p, Scratch<T>& s, int j, bool& dense_known, Records* records) {
    Lanes<T>& a = *s.lanes;
    int64_t end = a.next[j];
    while (end < a.asked[j].n && a.asked[j].distance(end) <= a.reached[j]) ++end;
    if (end > a.next[j]) {
        if (!dense_known) interpolants<T>(p.method, s.net.dim, s.slopes, s.rows, to_vector<T>(a.signed_h), s.dense);
        dense_known = true;
        polynomials_of_lane(p, a.row[j], j, s.y, s.dense, s.rows, s.padded, s.polynomials);
        const double offset = a.asked[j].direction * a.elapsed[j];
        answer(p, a.asked[j], a.row[j], a.next[j], end, offset, a.signed_h[j], s.polynomials, s.padded);
    }
    if (records && !keep_step(s, j, end, *records)) return false;
    a.next[j] = end;
    a.elapsed[j] = a.reached[j];
    a.accepted[j] += 1;
    return true;
}

// Solve the series [first, end). False where memory ran out.
template <class T>
static bool solve_range(
    const latentode_solve& p, Scratch<T>& s, int64_t first, int64_t end, Records* records, int64_t* last_record) {
    using V = Vector<T>;
    using Mask = decltype(V{} < V{});
    constexpr int n = lanes_of<T>;
    Lanes<T>& a = *s.lanes;
    V* seen = s.work.seen(s.net, 0);
    for (int j = 0; j < n; ++j) empty(s, j);
    s.waiting.count = s.waiting.next = 0;
    for (int64_t row0 = first;;) {
        bool any = false;
        for (int j = 0; j < n; ++j) {
            if (!a.active[j]) refill(p, s, j, row0, end, last_record);
            any = any || a.active[j];
        }
        if (!any) return true;
        for (int j = 0; j < n; ++j) {
            const double rest = a.span[j] - a.elapsed[j];
            a.last[j] = a.h[j] * 1.01 >= rest;
            a.trial[j] = a.last[j] ? rest : a.h[j];
            a.reached[j] = a.last[j] ? a.span[j] : a.elapsed[j] + a.trial[j];
            a.signed_h[j] = a.asked[j].direction * a.trial[j];
            a.t[j] = a.asked[j].t0 + a.asked[j].direction * a.elapsed[j];
        }
        if (s.net.n_inputs)
            for (int j = 0; j < n; ++j) see_inputs(p, s.net, seen, j, a.active[j] ? a.row[j] : -1);
        take_stages(p.method, s.net, s.work, s.y, s.state, s.slopes, s.rows, a.t, a.signed_h, false);
        error_ratios(p, s, to_vector<T>(a.signed_h), a.ratio);
        decide(p.controller, a);
        bool dense_known = false;
        Mask accepted{};
        for (int j = 0; j < n; ++j) {
            a.attempts[j] += 1;
            if (!a.accept[j]) continue;
            accepted[j] = -1;
            if (!accept_step(p, s, j, dense_known, records)) return false;
        }
        const V* slope = s.slopes + (p.method.stages - 1) * s.rows;
        for (int d = 0; d < s.net.dim; ++d) {
            s.y[d] = accepted ? s.state[d] : s.y[d];
            s.slopes[d] = accepted ? slope[d] : s.slopes[d];
        }
        for (int j = 0; j < n; ++j) {
            if (!a.active[j] || !retire(p, a, j)) continue;
            if (last_record) last_record[a.row[j]] = a.record[j];
            empty(s, j);
        }
    }
}
