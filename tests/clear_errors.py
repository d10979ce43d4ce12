"""What makes an error one of ours: raised by the package on purpose, and in words that a user can act on."""

from __future__ import annotations

import re
from types import TracebackType

SHORTEST = 30  # characters of a message that says what was expected and what came
INTERNALS = re.compile(
    r"tensor\(|object at 0x|'NoneType'|has no attribute '_|not subscriptable|<class '|<function|np\.(float|int|str)|"
    r"Traceback|mat1|broadcast|unhashable|invalid index|out of bounds|positional argument|__init__\(\)|\bnan\b.*\bnan\b"
)
OURS = ("latentode", "sklearn")  # NotFittedError is scikit-learn's, with its words


def complaints_about(error: BaseException) -> list[str]:
    """What is wrong with an error as an answer to a user; nothing for a good one."""
    text = str(error)
    found = []
    if type(error) in (AssertionError, KeyError, IndexError, RuntimeError, ZeroDivisionError, OverflowError):
        found.append(f"{type(error).__name__} says nothing of the user's mistake")
    if len(text) < SHORTEST:
        found.append(f"the message is too short: {text!r}")
    if INTERNALS.search(text):
        found.append(f"the message shows internals: {text!r}")
    module = _raised_in(error.__traceback__)
    if module.partition(".")[0] not in OURS:
        found.append(f"raised in {module}, not by the package: {text!r}")
    return found


def _raised_in(traceback: TracebackType | None) -> str:
    """Name of the module whose line raised."""
    module = ""
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return module
