// Query times in any order, on both sides of t0, as legs: problems that start at t0 and move away from it.
#pragma once

#include "api.h"

namespace latentode {

struct TimesFound {
    bool in_order;  // every series' query times lie on one side of t0, and move away from it
    bool infinite;  // a query time is, or a t0; of t0 also NaN
};

TimesFound inspect(const latentode_solve& problem);

// The legs of N series, up to two for each: first the one before t0, then the one after it.
struct Legs {
    int64_t n, n_times;  // legs, and query times of the longest one
    int64_t* series;     // (n) whose leg it is
    int64_t* query;      // (n, n_times) which query time of the series; -1 at the end of shorter legs
    double *t0, *times;  // (n), (n, n_times)
    char *y0, *inputs;   // (n, D + n_still), (n, C)
};

// NULL where memory ran out.
Legs* new_legs(const latentode_solve& problem);
void free_legs(Legs* legs);

// Results of a solve of legs, on their way to those of the series.
class LegAnswers {
   public:
    LegAnswers(const latentode_solve& problem, const Legs& legs);
    ~LegAnswers();
    LegAnswers(const LegAnswers&) = delete;
    LegAnswers& operator=(const LegAnswers&) = delete;

    bool has_memory() const;
    const latentode_solve& problem() const { return problem_; }  // that of the legs
    void give(const latentode_solve& to) const;                  // y, status and counts

   private:
    const Legs& legs_;
    latentode_solve problem_;
    int64_t* counts_;
    double* t_reached_;
};

// Cotangents of legs, on their way to those of the series.
class LegCotangents {
   public:
    LegCotangents(const latentode_solve& problem, const Legs& legs, const latentode_cotangents& wanted);
    ~LegCotangents();
    LegCotangents(const LegCotangents&) = delete;
    LegCotangents& operator=(const LegCotangents&) = delete;

    bool has_memory() const { return memory_ != nullptr; }
    const latentode_solve& problem() const { return problem_; }
    const latentode_cotangents& cotangents() const { return cotangents_; }
    void give() const;  // of y0, t0, the times and the inputs; those of parameters are the series' own

   private:
    const Legs& legs_;
    const latentode_solve& of_series_;
    const latentode_cotangents& wanted_;
    latentode_solve problem_;
    latentode_cotangents cotangents_;
    char* memory_;
};

}  // namespace latentode
