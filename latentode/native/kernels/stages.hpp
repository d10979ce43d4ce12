// The stages of an explicit Runge-Kutta step of every lane. Included inside the namespace of an instruction set, after
// mlp.hpp and answers.hpp.

template <class T>
INLINE Vector<T> to_vector(const double* x) {
    Vector<T> y{};
    for (int j = 0; j < lanes_of<T>; ++j) y[j] = (T)x[j];
    return y;
}

// What a step is computed in.
template <class T>
struct Stages {
    using V = Vector<T>;
    Network<T> net;
    int64_t rows;                 // of a state or slope
    V *y, *state, *slopes;        // at its beginning, at a stage, [stages][rows]
    V* power;                     // coefficients of one power of the polynomials
    V *inputs, *evaluation;       // of the series in the lanes; where the field is evaluated that nobody asks for again
    Polynomials<T> polynomials;
};

template <class T>
static Stages<T> stages_of(const latentode_solve& p, const Network<T>& net, Carver& memory) {
    using V = Vector<T>;
    Stages<T> s{};
    s.net = net;
    s.rows = net.rows();
    s.y = memory.take<V>(s.rows);
    s.state = memory.take<V>(s.rows);
    s.slopes = memory.take<V>(s.rows * p.method.stages);
    s.power = memory.take<V>(s.rows);
    s.inputs = memory.take<V>(net.n_inputs);
    s.evaluation = memory.take<V>(net.evaluation_rows);
    s.polynomials = Polynomials<T>::of(p, memory);
    return s;
}

// The inputs of a row into a lane; zeros where it is idle.
template <class T>
INLINE void load_inputs(const latentode_solve& p, const Stages<T>& s, int lane, int64_t row) {
    for (int i = 0; i < s.net.n_inputs; ++i)
        s.inputs[i][lane] = row < 0 ? (T)0 : ((const T*)p.inputs)[row * p.inputs_stride + i];
}

// Stages 1 to S - 1 into `slopes`, from `y` and the slope there; the last state is left in `state`. The evaluations
// stand `apart` vectors apart.
template <class T>
static void take_stages(
    const latentode_method& m, const Stages<T>& s, Vector<T>* evaluation, int64_t apart, const double* t, const double* signed_h) {
    using V = Vector<T>;
    const V h = to_vector<T>(signed_h);
    alignas(64) double at[lanes_of<T>];
    for (int64_t i = 1; i < m.stages; ++i, evaluation += apart) {
        const double* weights = m.weights + i * m.stages;
        for (int j = 0; j < lanes_of<T>; ++j) at[j] = t[j] + m.nodes[i] * signed_h[j];
        for (int d = 0; d < s.net.dim; ++d) {
            V total{};
            for (int64_t k = 0; k < i; ++k)
                if (weights[k] != 0) total += s.slopes[k * s.rows + d] * (T)weights[k];
            s.state[d] = s.y[d] + h * total;
        }
        see(s.net, evaluation, s.state, to_vector<T>(at), s.inputs);
        evaluate(s.net, evaluation, s.slopes + i * s.rows);
    }
}

// The step's polynomials, from all its slopes.
template <class T>
static void interpolate(const latentode_method& m, const Stages<T>& s, Vector<T> h) {
    s.polynomials.set(0, s.y);
    for (int64_t k = 0; k < m.degree; ++k) {
        for (int d = 0; d < s.net.dim; ++d) {
            Vector<T> total{};
            for (int64_t i = 0; i < m.stages; ++i) {
                const T weight = (T)m.interpolant[i * m.degree + k];
                if (weight != 0) total += s.slopes[i * s.rows + d] * weight;
            }
            s.power[d] = h * total;
        }
        s.polynomials.set(k + 1, s.power);
    }
}
