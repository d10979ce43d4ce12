// Solves and gradients of random shapes by the kernels, to be run under the sanitizers: every array has exactly the
// size that api.h says. Says what does not hold, and ends with 1.
//
//     driver n_cases n_threads
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "api.h"
#include "dense_api.h"

namespace {

const double NOTHING = std::numeric_limits<double>::quiet_NaN();

void check(bool holds, const char *what, int number) {
    if (holds) return;
    std::fprintf(stderr, "case %d does not hold (%s): %s\n", number, latentode_isa(), what);
    std::_Exit(1);
}

// The same numbers on every machine.
struct Random {
    uint64_t state;
    uint64_t next() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return state >> 33;
    }
    int below(int n) { return static_cast<int>(next() % static_cast<uint64_t>(n)); }
    double uniform() { return static_cast<double>(next() % 1000003u) / 1000003.0; }
    double around(double size) { return size * (2 * uniform() - 1); }
};

struct Method {
    int stages, degree;
    std::vector<double> nodes, weights, error, interpolant;
};

// Explicit methods with the slope at the end as their last stage, and y + theta h f(y) between: Heun's, of order 2 with
// an error estimate by Euler's, and the method of Bogacki and Shampine.
Method heun() {
    return {3, 1, {0, 1, 1}, {0, 0, 0, 1, 0, 0, 0.5, 0.5, 0}, {-0.5, 0.5, 0}, {0.5, 0.5, 0}};
}

Method bosh3() {
    return {4,
            2,
            {0, 0.5, 0.75, 1},
            {0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.75, 0, 0, 2.0 / 9, 1.0 / 3, 4.0 / 9, 0},
            {-5.0 / 72, 1.0 / 12, 1.0 / 9, -1.0 / 8},
            {1, -7.0 / 9, 0, 1.0 / 3, 0, 4.0 / 9, 0, 0}};
}

// The same polynomials with powers whose coefficients are 0.
Method with_degree(Method method, int degree) {
    std::vector<double> wider(static_cast<size_t>(method.stages) * degree);
    for (int i = 0; i < method.stages; ++i)
        for (int k = 0; k < method.degree; ++k) wider[i * degree + k] = method.interpolant[i * method.degree + k];
    method.interpolant = wider, method.degree = degree;
    return method;
}

template <class T>
struct Case {
    int n, n_times, n_still, n_inputs;
    std::vector<int64_t> widths;
    std::vector<std::vector<T>> weights, biases, of_weights, of_biases;
    std::vector<const void *> weight_places, bias_places;
    std::vector<void *> of_weight_places, of_bias_places;
    std::vector<T> speed, of_speed, y0, inputs, y, of_y, of_y0, of_inputs;
    std::vector<double> t0, times, t_reached, of_t0, of_times;
    std::vector<int64_t> status, n_steps, n_accepted, n_evals, n_evals_backward;
    Method method;
    latentode_solve problem{};
};

template <class T>
std::vector<T> random_numbers(Random &random, size_t n, double size) {
    std::vector<T> numbers(n);
    for (T &x : numbers) x = static_cast<T>(random.around(size));
    numbers.shrink_to_fit();
    return numbers;
}

template <class T>
void make_field(Case<T> &c, Random &random) {
    const int dim = 1 + random.below(random.below(4) ? 9 : 40), n_layers = 1 + random.below(4), time_input = random.below(2);
    c.n_inputs = random.below(3) ? 0 : 1 + random.below(5);
    c.widths = {dim + time_input + c.n_inputs};
    for (int l = 1; l < n_layers; ++l) c.widths.push_back(1 + random.below(30));
    if (n_layers > 1 && random.below(40) == 0) c.widths[1] = 1500;  // the evaluations of a step are larger than a chunk
    c.widths.push_back(dim);
    for (int l = 0; l < n_layers; ++l) {
        const size_t n_in = c.widths[l], n_out = c.widths[l + 1];
        c.weights.push_back(random_numbers<T>(random, n_in * n_out, 2 / std::sqrt(n_in)));
        c.biases.push_back(random_numbers<T>(random, random.below(4) ? n_out : 0, 1));
    }
    if (random.below(3) == 0) c.speed = random_numbers<T>(random, dim, 1);
    c.of_weights = c.weights, c.of_biases = c.biases, c.of_speed = c.speed;
    for (int l = 0; l < n_layers; ++l) {
        c.weight_places.push_back(c.weights[l].data());
        c.bias_places.push_back(c.biases[l].empty() ? nullptr : c.biases[l].data());
        c.of_weight_places.push_back(c.of_weights[l].data());
        c.of_bias_places.push_back(c.of_biases[l].empty() ? nullptr : c.of_biases[l].data());
    }
    latentode_field &field = c.problem.field;
    field.dim = dim, field.n_inputs = c.n_inputs, field.n_layers = n_layers;
    field.time_input = time_input, field.activation = random.below(5);
    field.widths = c.widths.data(), field.weights = c.weight_places.data(), field.biases = c.bias_places.data();
    field.speed = c.speed.empty() ? nullptr : c.speed.data();
}

// Moving away from t0 on either side, with NaN at the end, or in any order on both; some at t0, some asked twice.
template <class T>
void make_times(Case<T> &c, Random &random) {
    const bool any_order = random.below(3) == 0;
    c.t0 = random_numbers<double>(random, c.n, 3);
    c.times.resize(static_cast<size_t>(c.n) * c.n_times);
    const double gap = c.n_times > 100 ? 0.02 : 1;
    for (int row = 0; row < c.n; ++row) {
        double way = random.below(2) ? 1 : -1;
        const int asked = random.below(4) ? c.n_times : random.below(c.n_times + 1);
        double t = c.t0[row];
        for (int q = 0; q < c.n_times; ++q) {
            if (random.below(3)) t += way * gap * random.uniform();
            c.times[static_cast<size_t>(row) * c.n_times + q] = q < asked ? t : NOTHING;
            if (any_order) way = random.below(2) ? 1.5 : -1.5;
        }
    }
}

template <class T>
void make_controller(Case<T> &c, Random &random) {
    latentode_controller &how = c.problem.controller;
    how.adaptive = random.below(4) != 0;
    how.rtol = 1e-3, how.atol = random.below(2) ? 1e-4 : 1e-2;
    how.order = 3, how.alpha = 0.2, how.beta = 0.1, how.gamma = random.below(2) ? 0.05 : 0;
    how.safety = 0.9, how.smallest_factor = 0.2, how.largest_factor = 10;
    how.first_step = random.below(3) ? NOTHING : 0.5;
    how.min_step = random.below(4) ? 0 : 0.1;
    how.max_step = random.below(4) ? std::numeric_limits<double>::infinity() : 0.3;
    how.step_size = 0.05 + random.uniform();
    how.max_steps = random.below(4) ? 300 : 1 + random.below(4);
}

template <class T>
void make_case(Case<T> &c, Random &random, int n_threads) {
    static const int sizes[] = {0, 1, 2, 3, 5, 15, 16, 17, 33, 50};
    c.n = sizes[random.below(10)], c.n_times = random.below(3) ? random.below(13) : random.below(2);
    if (random.below(8) == 0) c.n_times = 150;  // many inside one step
    c.n_still = random.below(3) ? 0 : 1 + random.below(6);
    make_field(c, random);
    make_times(c, random);
    make_controller(c, random);
    const size_t columns = c.widths.back() + c.n_still, n = c.n;
    c.y0 = random_numbers<T>(random, n * columns, 2);
    if (n && random.below(4) == 0) c.y0[random.below(c.n * static_cast<int>(columns))] = static_cast<T>(NOTHING);
    c.inputs = random_numbers<T>(random, n * c.n_inputs, 1);
    c.method = with_degree(random.below(2) ? heun() : bosh3(), 2 + random.below(4));
    c.y.resize(n * c.n_times * columns);
    c.of_y = random_numbers<T>(random, n * c.n_times * columns, 1);
    for (std::vector<int64_t> *counts : {&c.status, &c.n_steps, &c.n_accepted, &c.n_evals, &c.n_evals_backward}) counts->assign(n, -1);
    c.t_reached.resize(n), c.of_t0.resize(n), c.of_times.resize(c.times.size());
    c.of_y0.resize(c.y0.size()), c.of_inputs.resize(c.inputs.size());

    latentode_solve &p = c.problem;
    p.double_precision = sizeof(T) == 8, p.n_threads = n_threads;
    p.n = c.n, p.n_times = c.n_times, p.n_still = c.n_still;
    p.method = {c.method.stages,         c.method.degree,       c.method.nodes.data(),
                c.method.weights.data(), c.method.error.data(), c.method.interpolant.data()};
    p.y0 = c.y0.data(), p.y0_stride = static_cast<int64_t>(columns);
    p.t0 = c.t0.data(), p.t0_stride = 1;
    p.times = c.times.data(), p.times_stride = c.n_times, p.time_stride = 1;
    p.inputs = c.inputs.data(), p.inputs_stride = c.n_inputs;
    p.y = c.y.data(), p.t_reached = c.t_reached.data();
    p.status = c.status.data(), p.n_steps = c.n_steps.data();
    p.n_accepted = c.n_accepted.data(), p.n_evals = c.n_evals.data();
    p.n_evals_backward = c.n_evals_backward.data();
}

template <class X>
bool all_finite(const std::vector<X> &numbers) {
    for (X x : numbers)
        if (!std::isfinite(x)) return false;
    return true;
}

template <class T>
void check_answers(const Case<T> &c, int number) {
    const size_t columns = c.widths.back() + c.n_still;
    for (int row = 0; row < c.n; ++row) {
        check(c.status[row] >= 0 && c.status[row] <= 3, "a status", number);
        check(c.n_accepted[row] >= 0 && c.n_accepted[row] <= c.n_steps[row], "accepted steps are steps", number);
        check(c.n_steps[row] <= 2 * c.problem.controller.max_steps, "no more steps on a side than allowed", number);
        bool bad = false;
        for (size_t d = 0; d < columns; ++d) bad = bad || !std::isfinite(c.y0[row * columns + d]);
        if (bad || c.status[row]) continue;
        for (int q = 0; q < c.n_times; ++q) {
            const size_t place = static_cast<size_t>(row) * c.n_times + q;
            for (size_t d = 0; d < columns; ++d)
                check(std::isfinite(c.y[place * columns + d]) == !std::isnan(c.times[place]),
                      "what is asked for is answered, and nothing else", number);
            for (int d = 0; d < c.n_still && !std::isnan(c.times[place]); ++d)
                check(c.y[(place + 1) * columns - 1 - d] == c.y0[(row + 1) * columns - 1 - d], "still columns stay", number);
        }
    }
}

template <class T>
void pull_back(Case<T> &c, const latentode_steps *steps, bool times, bool parameters, int number) {
    latentode_cotangents of{};
    of.of_y = c.of_y.data(), of.of_y0 = c.of_y0.data();
    if (times) of.of_t0 = c.of_t0.data(), of.of_times = c.of_times.data();
    if (c.n_inputs && (times || parameters)) of.of_inputs = c.of_inputs.data();
    if (parameters) {
        of.of_weights = c.of_weight_places.data(), of.of_biases = c.of_bias_places.data();
        of.of_speed = c.speed.empty() ? nullptr : c.of_speed.data();
    }
    check(latentode_solve_backward(&c.problem, steps, &of) == 0, "memory for the gradient", number);
    check(all_finite(c.of_y0) && all_finite(c.of_inputs), "finite gradients of y0 and the inputs", number);
    check(all_finite(c.of_t0) && all_finite(c.of_times), "finite gradients of the times", number);
    for (size_t l = 0; l < c.of_weights.size(); ++l)
        check(all_finite(c.of_weights[l]) && all_finite(c.of_biases[l]), "finite gradients of layers", number);
    check(all_finite(c.of_speed), "finite gradients of the speed", number);
}

template <class T>
bool close(const std::vector<T> &a, const std::vector<T> &b) {
    T size = 0, apart = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        size = std::max(size, std::abs(b[i]));
        apart = std::max(apart, std::abs(a[i] - b[i]));
    }
    return apart <= size * (sizeof(T) == 8 ? 1e-11 : 1e-3);
}

template <class T>
void run_case(int number, int n_threads) {
    Random random{static_cast<uint64_t>(number) * 2654435761u + 17};
    for (int i = 0; i < 5; ++i) random.next();
    Case<T> c;
    make_case(c, random, n_threads);
    check(latentode_solve_forward(&c.problem, nullptr) >= 0, "memory for the solve", number);
    check_answers(c, number);
    const std::vector<T> y = c.y;
    latentode_steps *steps = nullptr;
    const int64_t failed = latentode_solve_forward(&c.problem, &steps);
    check(failed == std::count_if(c.status.begin(), c.status.end(), [](int64_t s) { return s > 0; }),
          "as many failures as it says", number);
    for (size_t i = 0; i < y.size(); ++i)
        check(y[i] == c.y[i] || (std::isnan(y[i]) && std::isnan(c.y[i])), "keeping steps changes nothing", number);
    pull_back(c, steps, true, true, number);  // evaluates the stages again, for the times
    const Case<T> again = c;
    pull_back(c, steps, random.below(2), false, number);
    pull_back(c, steps, false, true, number);  // with the evaluations that were kept
    check(c.of_y0 == again.of_y0 && c.of_inputs == again.of_inputs, "kept evaluations are those made again", number);
    for (size_t l = 0; l < c.of_weights.size(); ++l)
        check(close(c.of_weights[l], again.of_weights[l]) && close(c.of_biases[l], again.of_biases[l]),
              "kept evaluations give the same gradients of layers", number);
    latentode_free_steps(steps);
}

// A perceptron on rows: the answers and the cotangents of everything, then of x alone and of the layers alone.
template <class T>
void run_dense(Random &random, int number, int n_threads) {
    static const int sizes[] = {0, 1, 7, 8, 63, 64, 65, 200};
    const size_t n_rows = sizes[random.below(8)], n_layers = 1 + random.below(4);
    std::vector<int64_t> widths;
    for (size_t l = 0; l <= n_layers; ++l) widths.push_back(1 + random.below(40));
    std::vector<std::vector<T>> weights, biases, d_weights, d_biases;
    std::vector<const void *> weight_places, bias_places;
    std::vector<void *> d_weight_places, d_bias_places;
    for (size_t l = 0; l < n_layers; ++l) {
        weights.push_back(random_numbers<T>(random, widths[l] * widths[l + 1], 1));
        biases.push_back(random_numbers<T>(random, random.below(4) ? widths[l + 1] : 0, 1));
    }
    d_weights = weights, d_biases = biases;
    for (size_t l = 0; l < n_layers; ++l) {
        weight_places.push_back(weights[l].data());
        bias_places.push_back(biases[l].empty() ? nullptr : biases[l].data());
        d_weight_places.push_back(d_weights[l].data());
        d_bias_places.push_back(d_biases[l].empty() ? nullptr : d_biases[l].data());
    }
    const std::vector<T> x = random_numbers<T>(random, n_rows * widths[0], 1);
    std::vector<T> y(n_rows * widths[n_layers]), d_x(x.size());
    latentode_dense p{};
    p.is_double = sizeof(T) == 8, p.n_threads = n_threads, p.activation = random.below(5);
    p.n_layers = static_cast<int32_t>(n_layers), p.n_rows = static_cast<int64_t>(n_rows);
    p.widths = widths.data(), p.weights = weight_places.data(), p.biases = bias_places.data();
    p.x = x.data(), p.y = y.data();
    check(latentode_run_dense(&p) == 0 && all_finite(y), "finite answers of a perceptron", number);
    const std::vector<T> d_y = random_numbers<T>(random, y.size(), 1);
    p.backward = 1, p.d_y = d_y.data();
    for (int wanted : {3, 1, 2}) {
        p.d_x = wanted & 1 ? d_x.data() : nullptr;
        p.d_weights = wanted & 2 ? d_weight_places.data() : nullptr;
        p.d_biases = wanted & 2 ? d_bias_places.data() : nullptr;
        check(latentode_run_dense(&p) == 0 && all_finite(d_x), "finite cotangents of rows", number);
        for (size_t l = 0; l < n_layers; ++l)
            check(all_finite(d_weights[l]) && all_finite(d_biases[l]), "finite cotangents of layers", number);
    }
}

void run_functions() {
    for (int n : {1, 7, 16, 33}) {
        std::vector<float> x(n, -2.5f), y(n);
        std::vector<double> u(n, 2.5), v(n);
        for (int function : {0, 1, 2, 3, 4, 100, 102}) {
            latentode_evaluate(function, 0, x.data(), y.data(), n);
            latentode_evaluate(function, 1, u.data(), v.data(), n);
            check(all_finite(y) && all_finite(v), "finite functions", function);
        }
        latentode_evaluate(101, 1, u.data(), v.data(), n);
    }
}

void run_cases(int first, int end, int n_threads) {
    for (int number = first; number < end; ++number) {
        run_case<float>(number, n_threads);
        run_case<double>(number, n_threads);
        Random random{static_cast<uint64_t>(number) * 40503u + 3};
        for (int i = 0; i < 5; ++i) random.next();
        run_dense<float>(random, number, n_threads);
        run_dense<double>(random, number, n_threads);
    }
}

}  // namespace

int main(int, char **arguments) {
    const int n_cases = std::atoi(arguments[1]), n_threads = std::atoi(arguments[2]);
    run_functions();
    run_cases(0, n_cases, n_threads);
    std::thread other(run_cases, n_cases / 2, n_cases, n_threads);  // two callers at once
    run_cases(0, n_cases / 2, n_threads);
    other.join();
    std::printf("%s: all of it holds\n", latentode_isa());
}
