// Answers to query times from the polynomials of a step, and their cotangents. Included inside the namespace of an
// instruction set, after vector.hpp, memory.hpp and products.hpp.

// Query times of a series.
struct Asked {
    const double* times;
    int64_t stride, n, at_start;  // of n query times the first `at_start` equal t0
    double t0, direction;

    double time(int64_t q) const { return times[q * stride]; }
    double distance(int64_t q) const { return (time(q) - t0) * direction; }
};

// Those of a row: NaN stands at the end only.
INLINE Asked asked_of(const latentode_solve& p, int64_t row) {
    Asked asked{p.times + row * p.times_stride, p.time_stride, p.n_times, 0, p.t0[row * p.t0_stride], 1.0};
    if (asked.n && asked.time(asked.n - 1) != asked.time(asked.n - 1)) {
        int64_t low = 0;
        for (int64_t high = asked.n - 1; low < high;) {
            const int64_t middle = (low + high) / 2;
            if (asked.time(middle) == asked.time(middle))
                low = middle + 1;
            else
                high = middle;
        }
        asked.n = low;
    }
    if (asked.n && asked.time(asked.n - 1) < asked.t0) asked.direction = -1.0;
    while (asked.at_start < asked.n && asked.time(asked.at_start) == asked.t0) ++asked.at_start;
    return asked;
}

template <class T>
INLINE T still_column(const latentode_solve& p, int64_t row, int64_t d) {
    return ((const T*)p.y0)[row * p.y0_stride + p.field.dim + d];
}

INLINE int64_t columns_of(const latentode_solve& p) { return p.field.dim + p.n_still; }

// Columns of a polynomial in memory: the last of them are read as a whole vector.
template <class T>
INLINE int64_t padded_columns(const latentode_solve& p) {
    return round_up(columns_of(p), lanes_of<T>);
}

// The query times [first, end) of a row inside a step of size `h` that begins `offset` from t0.
struct Inside {
    Asked asked;
    int64_t row, first, end;
    double offset, h;

    double theta(int64_t q, double per_h) const { return (asked.time(q) - asked.t0 - offset) * per_h; }
};

// Polynomials of one lane's step, [degree + 1][padded_columns].
template <class T>
static void polynomials_of_lane(
    const latentode_solve& p, int64_t row, int lane, const Vector<T>* y, const Vector<T>* dense, int64_t rows, T* out) {
    const int64_t dim = p.field.dim, columns = columns_of(p), padded = padded_columns<T>(p);
    for (int64_t k = 0; k <= p.method.degree; ++k, out += padded) {
        const Vector<T>* from = k ? dense + (k - 1) * rows : y;
        for (int64_t d = 0; d < dim; ++d) out[d] = from[d][lane];
        for (int64_t d = dim; d < padded; ++d) out[d] = k == 0 && d < columns ? still_column<T>(p, row, d - dim) : (T)0;
    }
}

// Answers are computed W columns of several query times at a time, as many as fill a vector.
template <class T, int W>
struct AnswerTile {
    using V = Vector<T>;
    static constexpr int queries = lanes_of<T> / W;

    // W numbers, once for each query
    static __attribute__((always_inline)) V repeated(const T* numbers) {
        V v;
        for (int r = 0; r < queries; ++r) __builtin_memcpy((T*)&v + r * W, numbers, W * sizeof(T));
        return v;
    }

    // a number for each query, W times
    static __attribute__((always_inline)) V spread(const T* numbers) {
        if constexpr (queries == 1) return splat<V>(*numbers);
        const V v = products::load(numbers);
#if defined(__GNUC__) && !defined(__clang__)
        typename Simd<T>::Integers place{};
        for (int i = 0; i < lanes_of<T>; ++i) place[i] = i / W;
        return __builtin_shuffle(v, place);
#else
        V each{};
        for (int i = 0; i < lanes_of<T>; ++i) each[i] = v[i / W];
        return each;
#endif
    }

    // `here` columns of `count` queries, whose rows are `columns` apart
    static __attribute__((always_inline)) V read(const T* y, int64_t columns, int64_t here, int64_t count) {
        if (here == W && count == queries && (queries == 1 || columns == W)) return products::load(y);
        V v{};
        for (int64_t r = 0; r < count; ++r, y += columns)
            for (int64_t i = 0; i < here; ++i) ((T*)&v)[r * W + i] = y[i];
        return v;
    }

    static __attribute__((always_inline)) void write(T* y, int64_t columns, int64_t here, int64_t count, V v) {
        if (here == W && count == queries && (queries == 1 || columns == W)) return products::store(y, v);
        for (int64_t r = 0; r < count; ++r, y += columns)
            for (int64_t i = 0; i < here; ++i) y[i] = ((const T*)&v)[r * W + i];
    }
};

constexpr int QUERIES_AT_ONCE = 64;

// How far inside the step `count` query times lie, from 0 to 1; zeros behind.
template <class T>
INLINE void thetas_of(const Inside& inside, int64_t first, int64_t count, T* thetas) {
    const double per_h = 1 / inside.h;
    for (int64_t i = 0; i < count; ++i) thetas[i] = (T)inside.theta(first + i, per_h);
    for (int64_t i = count; i < count + lanes_of<T>; ++i) thetas[i] = 0;
}

template <class T, int W, int Degree>
static void answer_with(const latentode_solve& p, const Inside& inside, const T* polynomials) {
    using V = Vector<T>;
    using Tile = AnswerTile<T, W>;
    const int64_t columns = columns_of(p), padded = padded_columns<T>(p), degree = Degree ? Degree : p.method.degree;
    alignas(64) T thetas[QUERIES_AT_ONCE + lanes_of<T>];
    for (int64_t first = inside.first; first < inside.end; first += QUERIES_AT_ONCE) {
        const int64_t count = least(inside.end - first, QUERIES_AT_ONCE);
        thetas_of(inside, first, count, thetas);
        for (int64_t d = 0; d < columns; d += W) {
            V powers[LATENTODE_MAX_DEGREE + 1];
            for (int64_t k = 0; k <= degree; ++k) powers[k] = Tile::repeated(polynomials + k * padded + d);
            T* y = (T*)p.y + (inside.row * p.n_times + first) * columns + d;
            const int64_t here = least(columns - d, W);
            for (int64_t q = 0; q < count; q += Tile::queries, y += Tile::queries * columns) {
                const V theta = Tile::spread(thetas + q);
                V value = powers[degree];
                for (int64_t k = degree - 1; k >= 0; --k) value = powers[k] + value * theta;
                Tile::write(y, columns, here, least(count - q, Tile::queries), value);
            }
        }
    }
}

// Cotangents of the polynomials, as these stand, from those of the answers.
template <class T, int W, int Degree>
static void of_answers_with(const latentode_solve& p, const void* of_answers, const Inside& inside, T* of) {
    using V = Vector<T>;
    using Tile = AnswerTile<T, W>;
    const int64_t columns = columns_of(p), padded = padded_columns<T>(p), degree = Degree ? Degree : p.method.degree;
    alignas(64) T thetas[QUERIES_AT_ONCE + lanes_of<T>];
    for (int64_t k = 0; k <= degree; ++k)
        for (int64_t d = 0; d < padded; ++d) of[k * padded + d] = 0;
    for (int64_t first = inside.first; first < inside.end; first += QUERIES_AT_ONCE) {
        const int64_t count = least(inside.end - first, QUERIES_AT_ONCE);
        thetas_of(inside, first, count, thetas);
        for (int64_t d = 0; d < columns; d += W) {
            V sums[LATENTODE_MAX_DEGREE + 1] = {};
            const T* of_y = (const T*)of_answers + (inside.row * p.n_times + first) * columns + d;
            const int64_t here = least(columns - d, W);
            for (int64_t q = 0; q < count; q += Tile::queries, of_y += Tile::queries * columns) {
                const V theta = Tile::spread(thetas + q);
                V power = Tile::read(of_y, columns, here, least(count - q, Tile::queries));
                for (int64_t k = 0; k < degree; ++k, power *= theta) sums[k] += power;
                sums[degree] += power;
            }
            for (int64_t k = 0; k <= degree; ++k)
                for (int r = 0; r < Tile::queries; ++r)
                    for (int i = 0; i < W; ++i) of[k * padded + d + i] += ((const T*)&sums[k])[r * W + i];
        }
    }
}

template <class T>
inline constexpr int narrow = lanes_of<T> < 4 ? lanes_of<T> : 4;

// The usual degrees are constants, so that the polynomials stay in registers.
template <class T, int W>
static void answer_tiled(const latentode_solve& p, const Inside& inside, const T* polynomials) {
    switch (p.method.degree) {
        case 3: return answer_with<T, W, 3>(p, inside, polynomials);
        case 4: return answer_with<T, W, 4>(p, inside, polynomials);
        default: return answer_with<T, W, 0>(p, inside, polynomials);
    }
}

template <class T, int W>
static void of_answers_tiled(const latentode_solve& p, const void* of_answers, const Inside& inside, T* of) {
    switch (p.method.degree) {
        case 3: return of_answers_with<T, W, 3>(p, of_answers, inside, of);
        case 4: return of_answers_with<T, W, 4>(p, of_answers, inside, of);
        default: return of_answers_with<T, W, 0>(p, of_answers, inside, of);
    }
}

template <class T>
static void answer(const latentode_solve& p, const Inside& inside, const T* polynomials) {
    if (columns_of(p) <= 2 * narrow<T>) return answer_tiled<T, narrow<T>>(p, inside, polynomials);
    answer_tiled<T, lanes_of<T>>(p, inside, polynomials);
}

template <class T>
static void of_answers(const latentode_solve& p, const void* of_answers, const Inside& inside, T* of) {
    if (columns_of(p) <= 2 * narrow<T>) return of_answers_tiled<T, narrow<T>>(p, of_answers, inside, of);
    of_answers_tiled<T, lanes_of<T>>(p, of_answers, inside, of);
}

// Adds the cotangents of the query times and of t0; returns that of the step's size, were its end to move with t0.
template <class T>
static double of_query_times(const latentode_solve& p, const latentode_cotangents& c, const Inside& inside, const T* polynomials) {
    const int64_t columns = columns_of(p), padded = padded_columns<T>(p);
    const double per_h = 1 / inside.h;
    double of_h = 0;
    for (int64_t q = inside.first; q < inside.end; ++q) {
        const double exact = inside.theta(q, per_h);
        const T theta = (T)exact, *of_y = (const T*)c.of_y + (inside.row * p.n_times + q) * columns;
        T of_theta = 0;
        for (int64_t d = 0; d < p.field.dim; ++d) {
            T slope = 0;
            for (int64_t k = p.method.degree; k >= 1; --k) slope = polynomials[k * padded + d] * (T)k + slope * theta;
            of_theta += slope * of_y[d];
        }
        const double of_time = (double)of_theta * per_h;
        c.of_times[inside.row * p.n_times + q] += of_time;
        c.of_t0[inside.row] -= of_time;
        of_h -= of_time * exact;
    }
    return of_h;
}

template <class T>
static void leave_unanswered(const latentode_solve& p, int64_t row, int64_t first) {
    const int64_t columns = columns_of(p);
    T* y = (T*)p.y + row * p.n_times * columns;
    const T unknown = (T)__builtin_nan("");
    for (int64_t i = first * columns; i < p.n_times * columns; ++i) y[i] = unknown;
}
