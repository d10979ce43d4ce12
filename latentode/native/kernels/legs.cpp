// Legs, compiled for the baseline: they are copied from and to, and solved elsewhere.

#include "legs.hpp"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

namespace latentode {
namespace {

size_t bytes_of_number(const latentode_solve& p) { return p.double_precision ? 8 : 4; }

int64_t width_of(const latentode_solve& p) { return p.field.dim + p.n_still; }

TimesFound inspect_row(const latentode_solve& p, int64_t row) {
    const double* times = p.times + row * p.times_stride;
    const double t0 = p.t0[row * p.t0_stride];
    double before = 0;  // distance from t0 of the time before; NaN counts as infinitely far
    int early = 0, late = 0, unsorted = 0, infinite = !isfinite(t0);
    for (int64_t q = 0; q < p.n_times; ++q) {
        const double t = times[q * p.time_stride], away = fabs(t - t0);
        const double distance = t == t ? away : (double)INFINITY;
        early |= t < t0;
        late |= t >= t0;
        unsorted |= distance < before;
        infinite |= fabs(t) == (double)INFINITY;
        before = distance;
    }
    return {!unsorted && !(early && late), infinite != 0};
}

// The query times of a series before t0, or those after it, in the order in which a solve meets them; how many.
int64_t side_of(const latentode_solve& p, int64_t row, bool before, int64_t* query) {
    const double* times = p.times + row * p.times_stride;
    const double t0 = p.t0[row * p.t0_stride];
    const auto at = [&](int64_t q) { return times[q * p.time_stride]; };
    int64_t count = 0;
    for (int64_t q = 0; q < p.n_times; ++q)
        if (before ? at(q) < t0 : at(q) >= t0) query[count++] = q;
    const auto meets_first = [&](int64_t a, int64_t b) {  // equal ones in the order of the table
        return at(a) == at(b) ? a < b : (before ? at(a) > at(b) : at(a) < at(b));
    };
    if (before) std::reverse(query, query + count);  // most tables are in the order of time
    if (!std::is_sorted(query, query + count, meets_first)) std::sort(query, query + count, meets_first);
    return count;
}

// A block of memory that is laid out by sizes in the order of their use.
class Layout {
   public:
    size_t add(size_t bytes) {
        const size_t place = used_;
        used_ += (bytes + 63) / 64 * 64;
        return place;
    }
    size_t used() const { return used_; }

   private:
    size_t used_ = 0;
};

template <class Number>
void add_row(void* to, int64_t row, const void* from, int64_t leg, int64_t width) {
    Number* sum = (Number*)to + row * width;
    const Number* more = (const Number*)from + leg * width;
    for (int64_t i = 0; i < width; ++i) sum[i] += more[i];
}

// Add every leg's row of `width` numbers to that of its series.
void add_rows(const latentode_solve& p, const Legs& legs, void* to, const void* from, int64_t width) {
    memset(to, 0, (size_t)(p.n * width) * bytes_of_number(p));
    for (int64_t leg = 0; leg < legs.n; ++leg) {
        if (p.double_precision)
            add_row<double>(to, legs.series[leg], from, leg, width);
        else
            add_row<float>(to, legs.series[leg], from, leg, width);
    }
}

// The rows of one answer to and from: the series' query time, and its place among those of the leg.
template <class Copy>
void for_each_answer(const latentode_solve& p, const Legs& legs, Copy copy) {
    for (int64_t leg = 0; leg < legs.n; ++leg) {
        const int64_t* query = legs.query + leg * legs.n_times;
        for (int64_t i = 0; i < legs.n_times && query[i] >= 0; ++i)
            copy(legs.series[leg] * p.n_times + query[i], leg * legs.n_times + i);
    }
}

latentode_solve of_legs(const latentode_solve& p, const Legs& legs) {
    latentode_solve q = p;
    q.n = legs.n, q.n_times = legs.n_times;
    q.t0 = legs.t0, q.t0_stride = 1;
    q.times = legs.times, q.times_stride = legs.n_times, q.time_stride = 1;
    q.y0 = legs.y0, q.y0_stride = width_of(p);
    q.inputs = legs.inputs, q.inputs_stride = p.field.n_inputs;
    return q;
}

template <class Number>
void fill(Number* to, int64_t n, Number value) {
    for (int64_t i = 0; i < n; ++i) to[i] = value;
}

}  // namespace

TimesFound inspect(const latentode_solve& p) {
    const bool alike = p.times_stride == 0 && p.t0_stride == 0;  // one row says it for all
    const int64_t rows = alike && p.n > 1 ? 1 : p.n;
    TimesFound found{true, false};
    for (int64_t row = 0; row < rows; ++row) {
        const TimesFound here = inspect_row(p, row);
        found.in_order &= here.in_order, found.infinite |= here.infinite;
    }
    return found;
}

Legs* new_legs(const latentode_solve& p) {
    auto* query = (int64_t*)malloc((size_t)(p.n_times > 0 ? p.n_times : 1) * sizeof(int64_t));
    if (!query) return nullptr;
    int64_t n = 0, longest = 0;
    for (int64_t row = 0; row < p.n; ++row) {
        const double t0 = p.t0[row * p.t0_stride];
        int64_t before = 0, after = 0;
        for (int64_t q = 0; q < p.n_times; ++q) {
            const double t = p.times[row * p.times_stride + q * p.time_stride];
            before += t < t0, after += t >= t0;
        }
        n += (before > 0) + (after > 0);
        longest = std::max(longest, std::max(before, after));
    }
    const size_t number = bytes_of_number(p), width = (size_t)width_of(p) * number;
    const size_t seen = (size_t)p.field.n_inputs * number, legs_n = (size_t)n, all = legs_n * (size_t)longest;
    Layout layout;
    const size_t head = layout.add(sizeof(Legs)), series = layout.add(legs_n * 8), queries = layout.add(all * 8);
    const size_t t0s = layout.add(legs_n * 8), times = layout.add(all * 8);
    const size_t y0 = layout.add(legs_n * width), inputs = layout.add(legs_n * seen);
    char* memory = (char*)malloc(layout.used());
    if (!memory) {
        free(query);
        return nullptr;
    }
    auto* legs = (Legs*)(memory + head);
    *legs = {n, longest, (int64_t*)(memory + series), (int64_t*)(memory + queries), (double*)(memory + t0s),
             (double*)(memory + times), memory + y0, memory + inputs};
    int64_t leg = 0;
    for (int64_t row = 0; row < p.n; ++row) {
        for (const bool before : {true, false}) {
            const int64_t count = side_of(p, row, before, query);
            if (!count) continue;
            int64_t* own = legs->query + leg * longest;
            double* own_times = legs->times + leg * longest;
            for (int64_t i = 0; i < longest; ++i) {
                own[i] = i < count ? query[i] : -1;
                own_times[i] = i < count ? p.times[row * p.times_stride + query[i] * p.time_stride] : (double)NAN;
            }
            legs->series[leg] = row;
            legs->t0[leg] = p.t0[row * p.t0_stride];
            memcpy(legs->y0 + (size_t)leg * width, (const char*)p.y0 + (size_t)(row * p.y0_stride) * number, width);
            if (seen)
                memcpy(legs->inputs + (size_t)leg * seen,
                       (const char*)p.inputs + (size_t)(row * p.inputs_stride) * number, seen);
            ++leg;
        }
    }
    free(query);
    return legs;
}

void free_legs(Legs* legs) { free(legs); }

LegAnswers::LegAnswers(const latentode_solve& p, const Legs& legs) : legs_(legs), problem_(of_legs(p, legs)) {
    const size_t n = (size_t)(legs.n > 0 ? legs.n : 1);
    const size_t numbers = n * (size_t)(legs.n_times > 0 ? legs.n_times : 1) * (size_t)width_of(p);
    problem_.y = malloc(numbers * bytes_of_number(p));
    counts_ = (int64_t*)malloc(5 * n * sizeof(int64_t));
    t_reached_ = (double*)malloc(n * sizeof(double));
    if (!counts_) return;
    problem_.status = counts_, problem_.n_steps = counts_ + n, problem_.n_accepted = counts_ + 2 * n;
    problem_.n_evals = counts_ + 3 * n, problem_.n_evals_backward = counts_ + 4 * n;
    problem_.t_reached = t_reached_;
}

LegAnswers::~LegAnswers() {
    free(problem_.y);
    free(counts_);
    free(t_reached_);
}

bool LegAnswers::has_memory() const { return problem_.y && counts_ && t_reached_; }

void LegAnswers::give(const latentode_solve& to) const {
    const size_t number = bytes_of_number(to), width = (size_t)width_of(to) * number;
    if (to.double_precision)
        fill((double*)to.y, to.n * to.n_times * width_of(to), (double)NAN);
    else
        fill((float*)to.y, to.n * to.n_times * width_of(to), (float)NAN);
    for_each_answer(to, legs_, [&](int64_t place, int64_t from) {
        memcpy((char*)to.y + (size_t)place * width, (const char*)problem_.y + (size_t)from * width, width);
    });
    for (int64_t row = 0; row < to.n; ++row) {
        to.status[row] = to.n_steps[row] = to.n_accepted[row] = to.n_evals[row] = to.n_evals_backward[row] = 0;
        to.t_reached[row] = to.t0[row * to.t0_stride];
    }
    for (int64_t leg = 0; leg < legs_.n; ++leg) {
        const int64_t row = legs_.series[leg], status = problem_.status[leg];
        if (status > 0 || to.status[row] <= 0) {  // where one failed that is told, and else the later time
            to.t_reached[row] = t_reached_[leg];
            to.status[row] = status;
        }
        to.n_steps[row] += problem_.n_steps[leg];
        to.n_accepted[row] += problem_.n_accepted[leg];
        to.n_evals[row] += problem_.n_evals[leg];
        to.n_evals_backward[row] += problem_.n_evals_backward[leg];
    }
}

LegCotangents::LegCotangents(const latentode_solve& p, const Legs& legs, const latentode_cotangents& wanted)
    : legs_(legs), of_series_(p), wanted_(wanted), problem_(of_legs(p, legs)), cotangents_(wanted) {
    const size_t number = bytes_of_number(p), n = (size_t)legs.n, all = n * (size_t)legs.n_times;
    const size_t width = (size_t)width_of(p) * number;
    Layout layout;
    const size_t of_y = layout.add(all * width), of_y0 = layout.add(n * width), of_t0 = layout.add(n * 8);
    const size_t of_times = layout.add(all * 8), of_inputs = layout.add(n * (size_t)p.field.n_inputs * number);
    memory_ = (char*)malloc(layout.used() + 64);
    if (!memory_) return;
    memset(memory_ + of_y, 0, all * width);
    for_each_answer(p, legs, [&](int64_t from, int64_t place) {
        memcpy(memory_ + of_y + (size_t)place * width, (const char*)wanted.of_y + (size_t)from * width, width);
    });
    cotangents_.of_y = memory_ + of_y;
    cotangents_.of_y0 = memory_ + of_y0;
    if (wanted.of_t0) cotangents_.of_t0 = (double*)(memory_ + of_t0);
    if (wanted.of_times) cotangents_.of_times = (double*)(memory_ + of_times);
    if (wanted.of_inputs) cotangents_.of_inputs = memory_ + of_inputs;
}

LegCotangents::~LegCotangents() { free(memory_); }

void LegCotangents::give() const {
    const latentode_solve& p = of_series_;
    add_rows(p, legs_, wanted_.of_y0, cotangents_.of_y0, width_of(p));
    if (wanted_.of_inputs) add_rows(p, legs_, wanted_.of_inputs, cotangents_.of_inputs, p.field.n_inputs);
    if (wanted_.of_t0) {
        fill(wanted_.of_t0, p.n, 0.0);
        for (int64_t leg = 0; leg < legs_.n; ++leg) wanted_.of_t0[legs_.series[leg]] += cotangents_.of_t0[leg];
    }
    if (wanted_.of_times) {
        fill(wanted_.of_times, p.n * p.n_times, 0.0);
        for_each_answer(p, legs_, [&](int64_t place, int64_t from) {
            wanted_.of_times[place] = cotangents_.of_times[from];
        });
    }
}

}  // namespace latentode
