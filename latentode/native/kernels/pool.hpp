// Threads that stay: what the kernels divide a batch over.
#pragma once

namespace latentode {

// Calls work(thread, data) once for each thread = 0 .. n_threads - 1 and returns when all have returned.
//
// The caller runs part 0. The others run on workers that are started at first use, wait for the next call for some tens
// of microseconds awake and then asleep, and last until the process ends. A part depends on its number only, never on who
// runs it: where the pool is taken (a second Python thread, a call from within `work`) or no thread can be started, the
// caller runs several parts or all of them, one after the other. So parts must not wait for each other. `work` must not
// throw: an exception ends the process here, since it could not cross into C. In the child of a fork the pool starts
// anew; `work` itself must not fork.
void run_on_threads(int n_threads, void (*work)(int thread, void *data), void *data) noexcept;

// GNU OpenMP's entry for a parallel region: (body, data, n_threads, flags).
using ParallelRegion = void (*)(void (*)(void *), void *, unsigned, unsigned);

// From now on run on the threads of this OpenMP, in place of workers: they wait awake for a while after every region, so
// that two pools would fight for the processors. Not in the child of a fork, whose OpenMP would hang.
void share_threads(ParallelRegion parallel_region) noexcept;

}  // namespace latentode
