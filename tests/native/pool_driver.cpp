// What must hold of the pool of threads; to be run under the sanitizers too. Says what does not hold, and ends with 1.
#include "pool.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <set>
#include <thread>
#include <vector>

using latentode::run_on_threads;
using Clock = std::chrono::steady_clock;

static void check(bool holds, const char *what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::_Exit(1);
}

struct Parts {
    std::vector<int> calls;
    std::vector<std::thread::id> runners;
    explicit Parts(int n) : calls(n, 0), runners(n) {}
};

static void note_part(int part, void *data) {
    Parts &parts = *static_cast<Parts *>(data);
    ++parts.calls[part];  // no atomic: the thread sanitizer sees whether the caller waited
    parts.runners[part] = std::this_thread::get_id();
}

static Parts run_parts(int n) {
    Parts parts(n);
    run_on_threads(n, note_part, &parts);
    return parts;
}

static bool all_once(const Parts &parts) {
    for (int calls : parts.calls) {
        if (calls != 1) return false;
    }
    return true;
}

static void every_part_runs_once() {
    run_on_threads(0, note_part, nullptr);
    run_on_threads(-1, note_part, nullptr);
    for (int n : {1, 2, 3, 7, 2, 1, 16, 300, 4}) check(all_once(run_parts(n)), "every part runs once");
}

static void each_part_has_a_thread_and_the_caller_is_the_first() {
    const Parts parts = run_parts(5);
    check(parts.runners[0] == std::this_thread::get_id(), "the caller runs part 0");
    check(std::set<std::thread::id>(parts.runners.begin(), parts.runners.end()).size() == 5, "five parts, five threads");
    check(run_parts(5).runners == parts.runners, "the workers stay");
}

static void parts_run_at_the_same_time() {
    std::atomic<int> arrived{0};
    const auto meet = [](int, void *data) {
        std::atomic<int> &there = *static_cast<std::atomic<int> *>(data);
        ++there;
        const auto deadline = Clock::now() + std::chrono::seconds(60);
        while (there < 3 && Clock::now() < deadline) std::this_thread::yield();
        check(there == 3, "parts run at the same time");
    };
    run_on_threads(3, meet, &arrived);
}

static void a_call_from_within_is_run_by_its_caller() {
    std::vector<Parts> inner(3, Parts(4));
    run_on_threads(
        3, [](int part, void *data) { run_on_threads(4, note_part, &(*static_cast<std::vector<Parts> *>(data))[part]); },
        &inner);
    for (const Parts &parts : inner) {
        check(all_once(parts), "every part of a call from within runs once");
        check(parts.runners[0] == parts.runners[3], "a call from within is run by its caller");
    }
}

static void several_callers_at_once() {
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
        callers.emplace_back([i] {
            for (int call = 0; call < 500; ++call) check(all_once(run_parts(2 + (call + i) % 4)), "calls at once");
        });
    }
    for (std::thread &caller : callers) caller.join();
}

// Pauses about as long as the workers stay awake: a call meets them awake, falling asleep and asleep.
static void no_call_is_missed_by_a_worker_that_falls_asleep() {
    for (int call = 0; call < 3000; ++call) {
        const auto until = Clock::now() + std::chrono::nanoseconds(40 * (call % 3000));
        while (Clock::now() < until) {
        }
        check(all_once(run_parts(3)), "a call after a pause");
    }
}

static void an_idle_pool_burns_nothing() {
    run_parts(4);
    const std::clock_t before = std::clock();  // of the process: all threads
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    check(std::clock() - before < CLOCKS_PER_SEC / 20, "an idle pool burns nothing");
}

int main() {
    every_part_runs_once();
    each_part_has_a_thread_and_the_caller_is_the_first();
    parts_run_at_the_same_time();
    a_call_from_within_is_run_by_its_caller();
    several_callers_at_once();
    no_call_is_missed_by_a_worker_that_falls_asleep();
    an_idle_pool_burns_nothing();
    std::puts("all of it holds");
    return 0;  // while the workers sleep
}
