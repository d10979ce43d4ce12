// The pool on a system that gives no thread, or only one: the caller runs the parts that nobody else does.
#include "pool.hpp"

#include <cerrno>
#include <cstdio>
#include <dlfcn.h>
#include <pthread.h>
#include <set>
#include <thread>

static int threads_left = 0;

extern "C" __attribute__((visibility("default"))) int pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) noexcept {
    if (threads_left-- <= 0) return EAGAIN;
    using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, start, argument);
}

struct Parts {
    int calls[7] = {};
    std::thread::id runners[7];
};

static bool all_once_on(int n_runners) {
    Parts parts;
    latentode::run_on_threads(
        7,
        [](int part, void *data) {
            ++static_cast<Parts *>(data)->calls[part];
            static_cast<Parts *>(data)->runners[part] = std::this_thread::get_id();
        },
        &parts);
    for (int calls : parts.calls) {
        if (calls != 1) return false;
    }
    return std::set<std::thread::id>(parts.runners, parts.runners + 7).size() == static_cast<std::size_t>(n_runners);
}

int main() {
    const bool alone = all_once_on(1);
    threads_left = 1;
    const bool with_one = all_once_on(2);
    threads_left = 100;
    const bool with_all = all_once_on(7);
    std::printf("%d%d%d\n", alone, with_one, with_all);
}
