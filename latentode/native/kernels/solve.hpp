// The integration loop: a lane takes the next series as soon as its own is done, so that nobody waits for a slow one.
// Included inside the namespace of an instruction set, after start.hpp and kept_step.hpp.
//
// The same decisions as those of latentode.solvers.integrate, in the same arithmetic up to rounding.

// One series per lane: where they are, and how they go on.
template <class T>
struct Lanes {
    using V = Vector<T>;
    static constexpr int n = lanes_of<T>;
    alignas(64) double elapsed[n], span[n], h[n], past[n], before_past[n];
    alignas(64) double trial[n], signed_h[n], t[n], reached[n], ratio[n], base[n], power[n], momentum[n], damping[n];
    int64_t row[n], next[n], accepted[n], attempts[n];
    bool active[n], last[n], accept[n];
    Asked asked[n];
};

template <class T>
struct Scratch {
    Stages<T> stages;
    Waiting<T> waiting;
    Lanes<T>* lanes;
};

template <class T>
static Scratch<T> scratch_of(const latentode_solve& p, const Network<T>& net, Carver& memory) {
    Scratch<T> s{};
    s.stages = stages_of(p, net, memory);
    s.waiting = waiting_of(net, memory);
    s.lanes = memory.take<Lanes<T>>(1);
    return s;
}

// Put the next waiting series into a lane; false where there is none any more.
template <class T>
static bool refill(const latentode_solve& p, Scratch<T>& s, int lane, int64_t& row0, int64_t end, uint8_t* started) {
    Waiting<T>& w = s.waiting;
    for (;;) {
        while (w.next < w.count && w.row[w.next] < 0) ++w.next;
        if (w.next < w.count) break;
        if (row0 >= end) return false;
        prepare(p, s.stages, w, row0, end, started);
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
    a.active[lane] = true;
    for (int d = 0; d < s.stages.net.dim; ++d) {
        s.stages.y[d][lane] = w.y[d][from];
        s.stages.slopes[d][lane] = w.slope[d][from];
    }
    for (int i = 0; i < s.stages.net.n_inputs; ++i) s.stages.inputs[i][lane] = w.inputs[i][from];
    return true;
}

// An idle lane computes on zeros.
template <class T>
static void empty(Scratch<T>& s, int lane) {
    Lanes<T>& a = *s.lanes;
    a.active[lane] = false;
    a.elapsed[lane] = a.span[lane] = a.h[lane] = 0;
    a.asked[lane] = Asked{};
    for (int d = 0; d < s.stages.net.dim; ++d) s.stages.y[d][lane] = s.stages.slopes[d][lane] = 0;
    for (int i = 0; i < s.stages.net.n_inputs; ++i) s.stages.inputs[i][lane] = 0;
}

// What every lane is to try.
template <class T>
static void propose(Lanes<T>& a) {
    for (int j = 0; j < a.n; ++j) {
        const double rest = a.span[j] - a.elapsed[j];
        a.last[j] = a.h[j] * 1.01 >= rest;
        a.trial[j] = a.last[j] ? rest : a.h[j];
        a.reached[j] = a.last[j] ? a.span[j] : a.elapsed[j] + a.trial[j];
        a.signed_h[j] = a.asked[j].direction * a.trial[j];
        a.t[j] = a.asked[j].t0 + a.asked[j].direction * a.elapsed[j];
    }
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

// Answer what lies inside the step that a lane has accepted, note it in `step` (unless that is NULL), and move on.
template <class T>
static void accept_step(const latentode_solve& p, Scratch<T>& s, int j, bool& interpolated, KeptStep<T>* step) {
    Lanes<T>& a = *s.lanes;
    Stages<T>& stages = s.stages;
    Inside inside{a.asked[j], a.row[j], a.next[j], a.next[j], a.asked[j].direction * a.elapsed[j], a.signed_h[j]};
    while (inside.end < inside.asked.n && inside.asked.distance(inside.end) <= a.reached[j]) ++inside.end;
    if (inside.end > inside.first) {
        if (!interpolated) interpolate<T>(p.method, stages, to_vector<T>(a.signed_h));
        interpolated = true;
        answer(p, inside, stages.polynomials, j);
    }
    if (step) step->note(j, inside, a.t[j], a.accepted[j] == 0, a.last[j]);
    a.next[j] = inside.end;
    a.elapsed[j] = a.reached[j];
    a.accepted[j] += 1;
}

// One step of every lane, kept in `range` unless that is NULL. False where memory ran out.
template <class T>
static bool step_lanes(const latentode_solve& p, Scratch<T>& s, Range* range) {
    using V = Vector<T>;
    using Mask = decltype(V{} < V{});
    Lanes<T>& a = *s.lanes;
    Stages<T>& stages = s.stages;
    V* evaluations = nullptr;
    if (range) evaluations = (V*)spare_place_in(range->evaluations, evaluations_bytes(p.method, stages.net));
    propose(a);
    take_stages(
        p.method, stages, evaluations ? evaluations : stages.evaluation, evaluations ? stages.net.evaluation_rows : 0, a.t,
        a.signed_h);
    error_ratios(p, stages, to_vector<T>(a.signed_h), a.ratio);
    decide(p.controller, a);
    KeptStep<T>* step = nullptr;
    if (range) {
        step = (KeptStep<T>*)place_in(range->steps, KeptStep<T>::bytes(stages.rows));
        if (!step) return false;
        step->clear_lanes();
    }
    bool interpolated = false, any = false, all = true;
    Mask accepted{};
    for (int j = 0; j < a.n; ++j) {
        a.attempts[j] += 1;
        any = any || a.accept[j];
        all = all && a.accept[j];
        if (!a.accept[j]) continue;
        accepted[j] = -1;
        accept_step(p, s, j, interpolated, step);
    }
    if (step && any) keep_step(p.method, stages, step, evaluations, accepted, all, *range);
    const V* slope = stages.slopes + (p.method.stages - 1) * stages.rows;
    for (int d = 0; d < stages.net.dim; ++d) {
        stages.y[d] = accepted ? stages.state[d] : stages.y[d];
        stages.slopes[d] = accepted ? slope[d] : stages.slopes[d];
    }
    return true;
}

// Solve the series [first, end) of a range, and keep the steps there if they are wanted. False where memory ran out.
template <class T>
static bool solve_range(const latentode_solve& p, Scratch<T>& s, Range& range, bool keep, uint8_t* started) {
    Lanes<T>& a = *s.lanes;
    for (int j = 0; j < a.n; ++j) empty(s, j);
    s.waiting.count = s.waiting.next = 0;
    for (int64_t row0 = range.first;;) {
        bool any = false;
        for (int j = 0; j < a.n; ++j) {
            if (!a.active[j]) refill(p, s, j, row0, range.end, started);
            any = any || a.active[j];
        }
        if (!any) return true;
        if (!step_lanes(p, s, keep ? &range : nullptr)) return false;
        for (int j = 0; j < a.n; ++j)
            if (a.active[j] && retire(p, a, j)) empty(s, j);
    }
}
