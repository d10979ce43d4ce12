"""A program: forks with the pool of threads at rest and at work; every child must get the same answers.

Its argument is the library made of `pool_library.cpp`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

LIBRARY = ctypes.CDLL(sys.argv[1])


def child_succeeds(generations: int) -> bool:
    """Whether a child (and its own child, ...) runs a call on four threads of its own, within a minute."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        works = LIBRARY.threads_of_a_call(4) == 4 and LIBRARY.threads_of_a_call(2) == 2
        os._exit(0 if works and (generations == 1 or child_succeeds(generations - 1)) else 1)
    return os.waitpid(pid, 0)[1] == 0


def main() -> None:
    assert child_succeeds(1), "before the first call"
    assert LIBRARY.threads_of_a_call(4) == 4
    assert child_succeeds(3), "after a call"
    assert LIBRARY.threads_of_a_call(4) == 4, "in the parent after its fork"
    done = threading.Event()

    def call_again_and_again() -> None:
        while not done.is_set():
            assert LIBRARY.threads_of_a_call(3) > 0

    other = threading.Thread(target=call_again_and_again)
    other.start()
    for _ in range(20):
        assert child_succeeds(1), "while another thread is in the pool"
    done.set()
    other.join()
    print("all of it holds")


main()
