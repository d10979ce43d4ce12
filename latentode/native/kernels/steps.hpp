// The accepted steps of a range of series, in the order in which they were taken; memory that grows.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

namespace latentode {

struct Legs;

// What every record begins with; the state and its slope at the beginning of the step follow, D numbers each.
struct StepHeader {
    double offset, h;      // beginning of the step as t - t0, and its signed size
    int64_t previous;      // record of the step before, or -1
    int64_t first, end;    // the query times [first, end) lie inside
    int64_t last;          // whether the step was cut to end at the last query time
};

struct Records {
    char* data = nullptr;
    int64_t used = 0, capacity = 0;
};

// Defined in dispatch.cpp, compiled for the baseline. False where memory ran out.
bool grow(Records& records, int64_t more);

// Of the steps kept of one solve: `last[row]` is the record of a series' last step, -1 for none, -2 for a series whose
// slope at t0 was not finite or not asked for.
struct Range {
    int64_t first, end;
    Records records;
};

}  // namespace latentode

struct latentode_steps {
    int64_t n_ranges;
    latentode::Range* ranges;
    int64_t* last;
    latentode::Legs* legs;  // what the solve was divided into; NULL where every series was one
};
