// The error of a step over its tolerance. Included inside the namespace of an instruction set, after stages.hpp.

INLINE bool finite(double x) { return x - x == 0; }
INLINE float root(float x) { return __builtin_sqrtf(x); }
INLINE double root(double x) { return __builtin_sqrt(x); }

template <class T>
INLINE T smallest_normal() {
    return sizeof(T) == 4 ? (T)1.17549435e-38 : (T)2.2250738585072014e-308;
}

// Tolerance atol + rtol |y|, as latentode.solvers.step_size has it.
template <class T>
INLINE Vector<T> tolerance(const latentode_controller& c, Vector<T> size) {
    return at_least(size * (T)c.rtol + (T)c.atol, splat<Vector<T>>(smallest_normal<T>()));
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

// Root mean square over all columns of a state, from the sum of squares.
template <class T>
INLINE T mean_size(const latentode_solve& p, T total) {
    return root((T)(total / (T)columns_of(p)));
}

// Of every lane; for fixed steps 0, or NaN where the new state or slope is not finite.
template <class T>
static void error_ratios(const latentode_solve& p, const Stages<T>& s, Vector<T> h, double* ratio) {
    using V = Vector<T>;
    const latentode_method& m = p.method;
    V total{};
    if (p.controller.adaptive) {
        for (int d = 0; d < s.net.dim; ++d) {
            V error{};
            for (int64_t i = 0; i < m.stages; ++i)
                if (m.error[i] != 0) error += s.slopes[i * s.rows + d] * (T)m.error[i];
            const V part = h * error / tolerance<T>(p.controller, larger(absolute(s.y[d]), absolute(s.state[d])));
            total += part * part;
        }
        for (int j = 0; j < lanes_of<T>; ++j) ratio[j] = mean_size<T>(p, total[j]);
        return;
    }
    const V* slope = s.slopes + (m.stages - 1) * s.rows;
    for (int d = 0; d < s.net.dim; ++d) total += (s.state[d] - s.state[d]) + (slope[d] - slope[d]);  // 0 or NaN
    for (int j = 0; j < lanes_of<T>; ++j) ratio[j] = total[j];
}
