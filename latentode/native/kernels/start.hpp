// Series at t0: their slopes and first steps. Included inside the namespace of an instruction set, after error.hpp.

// Series whose slope at t0 and first step are known, waiting for a lane.
template <class T>
struct Waiting {
    using V = Vector<T>;
    static constexpr int n = lanes_of<T>;
    int64_t row[n];  // -1 where there is none that moves
    double h[n], span[n];
    Asked asked[n];
    V *y, *slope, *inputs;  // lane i is series i
    int count, next;
};

template <class T>
static Waiting<T> waiting_of(const Network<T>& net, Carver& memory) {
    Waiting<T> w{};
    w.y = memory.take<Vector<T>>(net.rows());
    w.slope = memory.take<Vector<T>>(net.rows());
    w.inputs = memory.take<Vector<T>>(net.n_inputs);
    return w;
}

// Root mean squares of y and its slope over the tolerance, and of how the slope changes over a hundredth of `unit`.
template <class T>
static void sizes_at_start(const latentode_solve& p, const Waiting<T>& w, Vector<T>& size, Vector<T>& speed) {
    size = speed = Vector<T>{};
    for (int j = 0; j < w.n; ++j)
        if (w.row[j] >= 0) size[j] = still_size<T>(p, w.row[j]);
    for (int d = 0; d < p.field.dim; ++d) {
        const Vector<T> scale = tolerance<T>(p.controller, absolute(w.y[d]));
        size += (w.y[d] / scale) * (w.y[d] / scale);
        speed += (w.slope[d] / scale) * (w.slope[d] / scale);
    }
    for (int j = 0; j < w.n; ++j) {
        size[j] = mean_size<T>(p, size[j]);
        speed[j] = mean_size<T>(p, speed[j]);
    }
}

template <class T>
static Vector<T> bend_at_start(const latentode_solve& p, const Stages<T>& s, const Waiting<T>& w, const double* unit) {
    using V = Vector<T>;
    alignas(64) double way[w.n], t[w.n];
    for (int j = 0; j < w.n; ++j) {
        const bool moves = w.row[j] >= 0;
        way[j] = moves ? 0.01 * unit[j] * w.asked[j].direction : 0;
        t[j] = moves ? w.asked[j].t0 + way[j] : 0;
        if (moves) p.n_evals[w.row[j]] += 1;
    }
    const V small = to_vector<T>(way);
    for (int d = 0; d < s.net.dim; ++d) s.state[d] = w.y[d] + small * w.slope[d];
    V *slope = s.slopes + s.rows, bend{};
    see(s.net, s.evaluation, s.state, to_vector<T>(t), w.inputs);
    evaluate(s.net, s.evaluation, slope);
    for (int d = 0; d < s.net.dim; ++d) {
        const V change = (slope[d] - w.slope[d]) / tolerance<T>(p.controller, absolute(w.y[d]));
        bend += change * change;
    }
    for (int j = 0; j < w.n; ++j) bend[j] = mean_size<T>(p, bend[j]) / (T)0.01;
    return bend;
}

// First step sizes of the series that wait, from Hairer, Nørsett & Wanner, II.4, in a unit of time of their own. The
// stages of a step are free for it but for the first.
template <class T>
static void find_first_steps(const latentode_solve& p, const Stages<T>& s, Waiting<T>& w) {
    Vector<T> size, speed;
    sizes_at_start(p, w, size, speed);
    alignas(64) double unit[w.n], fastest[w.n], normal[w.n], power[w.n];
    for (int j = 0; j < w.n; ++j) {
        const T own = (size[j] < 100 ? (T)100 : size[j]) / speed[j];
        unit[j] = (double)own < w.span[j] ? (double)own : w.span[j];
    }
    const Vector<T> bend = bend_at_start(p, s, w, unit);
    for (int j = 0; j < w.n; ++j) {
        fastest[j] = w.row[j] < 0 ? 1 : unit[j] * (double)(speed[j] > bend[j] ? speed[j] : bend[j]);
        normal[j] = fastest[j] <= 1e-15 ? 1.0 : fastest[j] > 1e300 ? 1e300 : fastest[j];
    }
    powers(normal, -1 / p.controller.order, power, w.n);
    for (int j = 0; j < w.n; ++j) {
        double fraction = fastest[j] <= 1e-15 ? 0.01 : power[j];
        if (fraction > 1) fraction = 1;
        const double h = unit[j] * fraction;
        w.h[j] = h == h ? h : 1e-6;
    }
}

template <class T>
static void choose_first_steps(const latentode_solve& p, const Stages<T>& s, Waiting<T>& w) {
    const latentode_controller& c = p.controller;
    if (c.adaptive && c.first_step != c.first_step)
        find_first_steps(p, s, w);
    else
        for (int j = 0; j < w.n; ++j) w.h[j] = c.adaptive ? c.first_step : c.step_size;
    if (!c.adaptive) return;
    for (int j = 0; j < w.n; ++j) w.h[j] = w.h[j] < c.min_step ? c.min_step : w.h[j] > c.max_step ? c.max_step : w.h[j];
}

// Looks at what a row asks for, answers at t0, and loads its y0; false where there is nothing to evaluate.
template <class T>
static bool load_start(const latentode_solve& p, const Network<T>& net, Waiting<T>& w, int lane, int64_t row) {
    const int64_t columns = columns_of(p);
    const Asked& asked = w.asked[lane] = asked_of(p, row);
    const T* y0 = (const T*)p.y0 + row * p.y0_stride;
    T* y = (T*)p.y + row * p.n_times * columns;
    for (int64_t q = 0; q < asked.at_start; ++q)
        for (int64_t d = 0; d < columns; ++d) *y++ = y0[d];
    bool wanted = asked.n > 0;
    for (int64_t d = 0; d < columns; ++d) wanted = wanted && finite(y0[d]);
    if (!wanted) return false;
    for (int d = 0; d < net.dim; ++d) w.y[d][lane] = y0[d];
    for (int i = 0; i < net.n_inputs; ++i) w.inputs[i][lane] = ((const T*)p.inputs)[row * p.inputs_stride + i];
    return true;
}

// Whether a series with its slope has somewhere to go; writes what is known of those that have not.
template <class T>
static bool note_start(const latentode_solve& p, const Waiting<T>& w, int lane, int64_t row, bool wanted, uint8_t* started) {
    const Asked& asked = w.asked[lane];
    bool starts = wanted;
    for (int d = 0; d < p.field.dim; ++d) starts = starts && finite(w.slope[d][lane]);
    const bool ahead = asked.n > asked.at_start;
    p.status[row] = ahead && !starts ? LATENTODE_NON_FINITE : LATENTODE_SUCCESS;
    p.t_reached[row] = asked.t0;
    p.n_steps[row] = p.n_accepted[row] = 0;
    p.n_evals[row] = wanted;
    started[row] = starts;
    if (!starts || !ahead) leave_unanswered<T>(p, row, asked.at_start);
    return starts && ahead;
}

// Slopes and first steps of the next series, [first, end) or as many of them as there are lanes.
template <class T>
static void prepare(
    const latentode_solve& p, const Stages<T>& s, Waiting<T>& w, int64_t first, int64_t end, uint8_t* started) {
    const int count = (int)least(end - first, w.n);
    alignas(64) double t[w.n];
    bool wanted[w.n], any = false;
    clear(w.y, s.rows);
    clear(w.inputs, s.net.n_inputs);
    for (int j = 0; j < w.n; ++j) {
        wanted[j] = j < count && load_start(p, s.net, w, j, first + j);
        t[j] = wanted[j] ? w.asked[j].t0 : 0;
    }
    see(s.net, s.evaluation, w.y, to_vector<T>(t), w.inputs);
    evaluate(s.net, s.evaluation, w.slope);
    for (int j = 0; j < w.n; ++j) {
        const bool moves = j < count && note_start(p, w, j, first + j, wanted[j], started);
        any = any || moves;
        w.row[j] = moves ? first + j : -1;
        w.span[j] = moves ? w.asked[j].distance(w.asked[j].n - 1) : 0;
        for (int d = 0; d < s.net.dim && !moves; ++d) w.y[d][j] = w.slope[d][j] = 0;
    }
    w.count = w.n;
    w.next = 0;
    if (any) choose_first_steps(p, s, w);
}
