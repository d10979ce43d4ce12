#include "pool.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace latentode {
namespace {

constexpr int kMaxWorkers = 255;
constexpr std::chrono::microseconds kAwake{50};

void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Where one thread waits for a condition on atomics: awake for a while, then asleep.
class Waiter {
public:
    template <class Ready>
    void wait(Ready ready) {
        const auto deadline = std::chrono::steady_clock::now() + kAwake;
        do {
            for (int i = 0; i < 32; ++i) {
                if (ready()) return;
                pause();
            }
        } while (std::chrono::steady_clock::now() < deadline);
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.store(true);  // before the last look at the condition, as `wake` looks after the change: one of both sees
        wake_.wait(lock, ready);
        asleep_.store(false);
    }

    // To be called after a (sequentially consistent) change that makes the condition true.
    void wake() {
        if (!asleep_.load()) return;
        { std::lock_guard<std::mutex> until_it_waits(mutex_); }
        wake_.notify_one();
    }

private:
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<bool> asleep_{false};
};

class Pool {
public:
    void run(int n_parts, void (*work)(int, void *), void *data) {
        if (n_parts <= 1 || taken_.exchange(true)) {
            for (int part = 0; part < n_parts; ++part) work(part, data);
            return;
        }
        const int helpers = start_workers(std::min(n_parts - 1, kMaxWorkers));
        job_ = {n_parts, helpers + 1, work, data};
        unfinished_.store(helpers);
        for (int i = 0; i < helpers; ++i) {
            workers_[i].jobs.fetch_add(1);
            workers_[i].waiter.wake();
        }
        run_share(0);
        caller_.wait([this] { return unfinished_.load() == 0; });
        taken_.store(false);
    }

private:
    struct Job {
        int n_parts, n_runners;
        void (*work)(int, void *);
        void *data;
    };
    struct alignas(64) Worker {
        std::atomic<unsigned> jobs{0};  // given so far
        Waiter waiter;
    };

    // Starts those that are missing; returns how many of the wanted there are.
    int start_workers(int wanted) {
        try {
            for (; n_workers_ < wanted; ++n_workers_) {
                std::thread(&Pool::serve, this, n_workers_).detach();
            }
        } catch (...) {  // the system gives no more threads: those that are there share the parts
        }
        return std::min(wanted, n_workers_);
    }

    void serve(int index) noexcept {
        Worker &self = workers_[index];
        for (unsigned done = 0;; ++done) {
            self.waiter.wait([&] { return self.jobs.load() != done; });
            run_share(index + 1);
            if (unfinished_.fetch_sub(1) == 1) caller_.wake();
        }
    }

    void run_share(int runner) {
        for (int part = runner; part < job_.n_parts; part += job_.n_runners) job_.work(part, job_.data);
    }

    std::atomic<bool> taken_{false};
    Job job_{};
    std::atomic<int> unfinished_{0};
    Waiter caller_;
    int n_workers_ = 0;
    std::array<Worker, kMaxWorkers> workers_;
};

// Never destroyed: the workers sleep in it until the process ends.
Pool &pool = *[] {
    Pool *made = new Pool;
#if !defined(_WIN32)
    // the child has no workers, and locks may be held by threads that it has not: a new pool in the same place
    pthread_atfork(nullptr, nullptr, [] { new (&pool) Pool; });
#endif
    return made;
}();

std::atomic<ParallelRegion> shared{nullptr};

struct Parts {
    std::atomic<int> next;
    int n;
    void (*work)(int, void *);
    void *data;
};

void take_parts(void *data) {
    Parts &parts = *static_cast<Parts *>(data);
    for (int part; (part = parts.next.fetch_add(1)) < parts.n;) parts.work(part, parts.data);
}

}  // namespace

void share_threads(ParallelRegion parallel_region) noexcept {
    shared.store(parallel_region);
#if !defined(_WIN32)
    static const int at_fork = pthread_atfork(nullptr, nullptr, [] { shared.store(nullptr); });
    (void)at_fork;
#endif
}

void run_on_threads(int n_threads, void (*work)(int thread, void *data), void *data) noexcept {
    const ParallelRegion parallel_region = shared.load();
    if (n_threads <= 1 || !parallel_region) {
        pool.run(n_threads, work, data);
        return;
    }
    Parts parts{{0}, n_threads, work, data};
    parallel_region(take_parts, &parts, static_cast<unsigned>(n_threads), 0);
}

}  // namespace latentode
