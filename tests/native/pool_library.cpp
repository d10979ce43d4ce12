// The pool as Python calls it: how many threads ran the parts of a call.
#include "pool.hpp"

#include <set>
#include <thread>
#include <vector>

extern "C" __attribute__((visibility("default"))) int threads_of_a_call(int n_parts) {
    std::vector<std::thread::id> runners(n_parts);
    latentode::run_on_threads(
        n_parts,
        [](int part, void *data) {
            (*static_cast<std::vector<std::thread::id> *>(data))[part] = std::this_thread::get_id();
        },
        &runners);
    if (std::set<std::thread::id>(runners.begin(), runners.end()).count(std::thread::id())) return -1;  // a part left out
    return static_cast<int>(std::set<std::thread::id>(runners.begin(), runners.end()).size());
}
