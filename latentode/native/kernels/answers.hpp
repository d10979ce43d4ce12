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

// The query times [first, end) of a row inside a step of size `h` that begins `offset` from t0.
struct Inside {
    Asked asked;
    int64_t row, first, end;
    double offset, h;

    double theta(int64_t q, double per_h) const { return (asked.time(q) - asked.t0 - offset) * per_h; }
};

// Polynomials of a step of every lane, [degree + 1][columns / 4][lane][4], or the cotangents of such: four columns of a
// lane are neighbours. Columns beyond those that move hold anything.
template <class T>
struct Polynomials {
    using V = Vector<T>;
    static constexpr int L = lanes_of<T>;
    T* numbers;
    int64_t degree, quartets;

    static Polynomials of(const latentode_solve& p, Carver& memory) {
        const int64_t quartets = (p.field.dim + 3) / 4;
        return {memory.take<T>((p.method.degree + 1) * quartets * L * 4), p.method.degree, quartets};
    }
    // the coefficient of theta^power, column `d` (and those beside it in its four)
    T* at(int64_t power, int64_t d, int lane) const {
        return numbers + ((power * quartets + d / 4) * L + lane) * 4 + d % 4;
    }
    // rows[4 quartets] are those of one power
    void set(int64_t power, const V* rows) const {
        for (int64_t d = 0; d < 4 * quartets; d += 4) rows_to_quartets(rows + d, (V*)at(power, d, 0));
    }
    void get(int64_t power, V* rows) const {
        for (int64_t d = 0; d < 4 * quartets; d += 4) quartets_to_rows((const V*)at(power, d, 0), rows + d);
    }
    void clear_all() const { clear((V*)numbers, (degree + 1) * quartets * 4); }
};

// Answers are computed W columns of several query times at a time, as many as fill a vector.
template <class T, int W>
struct AnswerTile {
    using V = Vector<T>;
    static constexpr int L = lanes_of<T>, queries = L / W, piece = W < 4 ? W : 4;

    // the coefficients of W columns, once for each query
    static __attribute__((always_inline)) V coefficients(const Polynomials<T>& polynomials, int64_t power, int64_t d, int lane) {
        V v;
        const T* from = polynomials.at(power, d, lane);
        for (int i = 0; i < L; i += piece) __builtin_memcpy((T*)&v + i, from + i % W * L, piece * sizeof(T));
        return v;
    }

    // a number for each query, W times
    static __attribute__((always_inline)) V spread(const T* numbers) {
        if constexpr (queries == 1) return splat<V>(*numbers);
        const V v = products::load(numbers);
#if defined(__GNUC__) && !defined(__clang__)
        typename Simd<T>::Integers place{};
        for (int i = 0; i < L; ++i) place[i] = i / W;
        return __builtin_shuffle(v, place);
#else
        V each{};
        for (int i = 0; i < L; ++i) each[i] = v[i / W];
        return each;
#endif
    }

    // `here` columns of all queries, whose rows are `columns` apart
    static __attribute__((always_inline)) V read(const T* y, int64_t columns, int64_t here) {
        if (here == W && (queries == 1 || columns == W)) return products::load(y);
        V v{};
        for (int r = 0; r < queries; ++r, y += columns)
            if (here == W)
                __builtin_memcpy((T*)&v + r * W, y, W * sizeof(T));
            else
                for (int64_t i = 0; i < here; ++i) ((T*)&v)[r * W + i] = y[i];
        return v;
    }

    static __attribute__((always_inline)) void write(T* y, int64_t columns, int64_t here, V v) {
        if (here == W && (queries == 1 || columns == W)) return products::store(y, v);
        for (int r = 0; r < queries; ++r, y += columns)
            if (here == W)
                __builtin_memcpy(y, (const T*)&v + r * W, W * sizeof(T));
            else
                for (int64_t i = 0; i < here; ++i) y[i] = ((const T*)&v)[r * W + i];
    }

    // v without its first `done` queries
    static __attribute__((always_inline)) V without(V v, int64_t done) {
        typename Simd<T>::Integers place{};
        for (int i = 0; i < L; ++i) place[i] = i / W;
        return place >= (typename Element<V>::integer)done ? v : V{};
    }

    static __attribute__((always_inline)) void add_pieces(T* to, V v, int64_t apart) {
        for (int i = 0; i < W; i += piece) {
            typedef T Piece __attribute__((vector_size(piece * sizeof(T))));
            Piece sum, more;
            __builtin_memcpy(&sum, to + i * apart, sizeof sum);
            for (int r = 0; r < queries; ++r) {
                __builtin_memcpy(&more, (const T*)&v + r * W + i, sizeof more);
                sum += more;
            }
            __builtin_memcpy(to + i * apart, &sum, sizeof sum);
        }
    }
};

constexpr int64_t QUERIES_AT_ONCE = 64;

// How far inside a step up to as many query times lie as are looked at together, from 0 to 1; zeros behind.
template <class T>
struct Thetas {
    int64_t count;
    alignas(64) T values[QUERIES_AT_ONCE + lanes_of<T>];

    Thetas(const Inside& inside, int64_t first) : count(least(inside.end - first, QUERIES_AT_ONCE)) {
        const double per_h = 1 / inside.h;
        const double* times = inside.asked.times + first * inside.asked.stride;
        if (inside.asked.stride == 1)  // a loop that the compiler makes one of vectors
            for (int64_t i = 0; i < count; ++i) values[i] = (T)((times[i] - inside.asked.t0 - inside.offset) * per_h);
        else
            for (int64_t i = 0; i < count; ++i) values[i] = (T)inside.theta(first + i, per_h);
        products::store(values + count, Vector<T>{});
    }
};

// Columns [d, d + W) of the answers from the query time `first` on. The last tile goes back over some that are done: a
// tile of fewer query times is for steps that have no more.
template <class T, int W, int Degree>
INLINE void answer_columns(
    const latentode_solve& p, const Inside& inside, int64_t first, const Thetas<T>& thetas, int64_t d,
    const Polynomials<T>& polynomials, int lane) {
    using Tile = AnswerTile<T, W>;
    constexpr int64_t Q = Tile::queries;
    const int64_t columns = columns_of(p), degree = Degree ? Degree : p.method.degree, count = thetas.count;
    const int64_t here = least(p.field.dim - d, W);
    Vector<T> powers[LATENTODE_MAX_DEGREE + 1];
    for (int64_t k = 0; k <= degree; ++k) powers[k] = Tile::coefficients(polynomials, k, d, lane);
    T* y = (T*)p.y + (inside.row * p.n_times + first) * columns + d;
    const auto value = [&](int64_t q) __attribute__((always_inline)) {
        const Vector<T> theta = Tile::spread(thetas.values + q);
        Vector<T> sum = powers[degree];
        for (int64_t k = degree - 1; k >= 0; --k) sum = powers[k] + sum * theta;
        return sum;
    };
    int64_t q = 0;
    for (; q + Q <= count; q += Q) Tile::write(y + q * columns, columns, here, value(q));
    if (q == count) return;
    if (count >= Q) return Tile::write(y + (count - Q) * columns, columns, here, value(count - Q));
    const Vector<T> last = value(0);
    for (; q < count; ++q)
        for (int64_t i = 0; i < here; ++i) y[q * columns + i] = ((const T*)&last)[q * W + i];
}

// Adds to the cotangents of a lane's polynomials those of columns [d, d + W) of the answers.
template <class T, int W, int Degree>
INLINE void of_answer_columns(
    const latentode_solve& p, const void* of_answers, const Inside& inside, int64_t first, const Thetas<T>& thetas, int64_t d,
    const Polynomials<T>& of_polynomials, int lane) {
    using V = Vector<T>;
    using Tile = AnswerTile<T, W>;
    constexpr int64_t Q = Tile::queries;
    const int64_t columns = columns_of(p), degree = Degree ? Degree : p.method.degree, count = thetas.count;
    const int64_t here = least(p.field.dim - d, W);
    V sums[LATENTODE_MAX_DEGREE + 1] = {};
    const T* of_y = (const T*)of_answers + (inside.row * p.n_times + first) * columns + d;
    const auto add = [&](V power, int64_t q) __attribute__((always_inline)) {
        const V theta = Tile::spread(thetas.values + q);
        for (int64_t k = 0; k < degree; ++k, power *= theta) sums[k] += power;
        sums[degree] += power;
    };
    int64_t q = 0;
    for (; q + Q <= count; q += Q) add(Tile::read(of_y + q * columns, columns, here), q);
    if (q < count && count >= Q) {
        add(Tile::without(Tile::read(of_y + (count - Q) * columns, columns, here), Q - (count - q)), count - Q);
    } else if (q < count) {
        V few{};
        for (; q < count; ++q)
            for (int64_t i = 0; i < here; ++i) ((T*)&few)[q * W + i] = of_y[q * columns + i];
        add(few, 0);
    }
    for (int64_t k = 0; k <= degree; ++k) Tile::add_pieces(of_polynomials.at(k, d, lane), sums[k], lanes_of<T>);
}

template <class T>
inline constexpr int narrow = lanes_of<T> < 4 ? lanes_of<T> : 4;

template <class T, int Degree>
static void answer_with(const latentode_solve& p, const Inside& inside, const Polynomials<T>& polynomials, int lane) {
    constexpr int wide = lanes_of<T>;
    for (int64_t first = inside.first; first < inside.end; first += QUERIES_AT_ONCE) {
        const Thetas<T> thetas(inside, first);
        int64_t d = 0;
        for (; d + wide <= p.field.dim; d += wide) answer_columns<T, wide, Degree>(p, inside, first, thetas, d, polynomials, lane);
        for (; d < p.field.dim; d += narrow<T>)
            answer_columns<T, narrow<T>, Degree>(p, inside, first, thetas, d, polynomials, lane);
    }
}

template <class T, int Degree>
static void of_answers_with(
    const latentode_solve& p, const void* of_answers, const Inside& inside, const Polynomials<T>& of_polynomials, int lane) {
    constexpr int wide = lanes_of<T>;
    for (int64_t first = inside.first; first < inside.end; first += QUERIES_AT_ONCE) {
        const Thetas<T> thetas(inside, first);
        int64_t d = 0;
        for (; d + wide <= p.field.dim; d += wide)
            of_answer_columns<T, wide, Degree>(p, of_answers, inside, first, thetas, d, of_polynomials, lane);
        for (; d < p.field.dim; d += narrow<T>)
            of_answer_columns<T, narrow<T>, Degree>(p, of_answers, inside, first, thetas, d, of_polynomials, lane);
    }
}

// The answers inside a lane's step. The usual degrees are constants, so that the polynomials stay in registers.
template <class T>
static void answer(const latentode_solve& p, const Inside& inside, const Polynomials<T>& polynomials, int lane) {
    switch (p.method.degree) {
        case 3: answer_with<T, 3>(p, inside, polynomials, lane); break;
        case 4: answer_with<T, 4>(p, inside, polynomials, lane); break;
        default: answer_with<T, 0>(p, inside, polynomials, lane);
    }
    if (!p.n_still) return;
    const int64_t columns = columns_of(p);
    for (int64_t q = inside.first; q < inside.end; ++q) {
        T* y = (T*)p.y + (inside.row * p.n_times + q) * columns + p.field.dim;
        for (int64_t d = 0; d < p.n_still; ++d) y[d] = still_column<T>(p, inside.row, d);
    }
}

// Adds the cotangents of those answers to those of the lane's polynomials, and to y0 where it never moves.
template <class T>
static void of_answers(
    const latentode_solve& p, const latentode_cotangents& c, const Inside& inside, const Polynomials<T>& of_polynomials, int lane) {
    switch (p.method.degree) {
        case 3: of_answers_with<T, 3>(p, c.of_y, inside, of_polynomials, lane); break;
        case 4: of_answers_with<T, 4>(p, c.of_y, inside, of_polynomials, lane); break;
        default: of_answers_with<T, 0>(p, c.of_y, inside, of_polynomials, lane);
    }
    if (!p.n_still) return;
    const int64_t columns = columns_of(p), dim = p.field.dim;
    T* of_y0 = (T*)c.of_y0 + inside.row * columns;
    for (int64_t q = inside.first; q < inside.end; ++q) {
        const T* of_y = (const T*)c.of_y + (inside.row * p.n_times + q) * columns;
        for (int64_t d = dim; d < columns; ++d) of_y0[d] += of_y[d];
    }
}

// Adds the cotangents of the query times and of t0; returns that of the step's size, were its end to move with t0.
template <class T>
static double of_query_times(
    const latentode_solve& p, const latentode_cotangents& c, const Inside& inside, const Polynomials<T>& polynomials, int lane) {
    typedef T Quartet __attribute__((vector_size(4 * sizeof(T))));
    const int64_t dim = p.field.dim, degree = p.method.degree, columns = columns_of(p);
    const double per_h = 1 / inside.h;
    double of_h = 0;
    for (int64_t d = 0; d < dim; d += 4) {
        const int64_t here = least(dim - d, 4);
        Quartet slopes[LATENTODE_MAX_DEGREE + 1] = {};  // coefficients of the polynomial's derivative
        for (int64_t k = 1; k <= degree; ++k)
            for (int64_t i = 0; i < here; ++i) slopes[k][i] = polynomials.at(k, d, lane)[i] * (T)k;
        const T* of_y = (const T*)c.of_y + (inside.row * p.n_times + inside.first) * columns + d;
        for (int64_t q = inside.first; q < inside.end; ++q, of_y += columns) {
            const double exact = inside.theta(q, per_h);
            Quartet of{}, slope{};
            if (here == 4)
                __builtin_memcpy(&of, of_y, sizeof of);
            else
                for (int64_t i = 0; i < here; ++i) of[i] = of_y[i];
            for (int64_t k = degree; k >= 1; --k) slope = slopes[k] + slope * (T)exact;
            const Quartet part = slope * of;
            const double of_time = (double)(part[0] + part[1] + part[2] + part[3]) * per_h;
            c.of_times[inside.row * p.n_times + q] += of_time;
            c.of_t0[inside.row] -= of_time;
            of_h -= of_time * exact;
        }
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
