"""Constraints of parameters: what they allow, what they say, and the message that is made of it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from latentode.checks import Number, OneOf, That, Whole, check_parameters, did_you_mean

NAN, INF = float("nan"), float("inf")
CALLABLE = That(callable, "a callable")

# constraint, what it says, values it allows, values it refuses
CONSTRAINTS = [
    (Whole(1), "an int of at least 1", [1, 50, np.int32(3)], [0, -1, 1.0, "1", True, np.True_, None, NAN]),
    (Whole(0), "an int of at least 0", [0, np.uint8(0)], [-1, False]),
    (
        Number(),
        "a finite number",
        [0, -1e300, 1.5, np.float32(2)],
        [NAN, INF, -INF, True, np.False_, "1", None, 1j],
    ),
    (Number(0), "a number of at least 0", [0, 0.0, 3], [-1e-300, INF]),
    (Number(0, open_low=True), "a number greater than 0", [1e-300, 5], [0, 0.0, -1]),
    (Number(0, 1), "a number in [0, 1]", [0, 1, 0.5], [-0.1, 1.1]),
    (Number(0, 1, open_low=True, open_high=True), "a number in (0, 1)", [0.5], [0, 1, 0.0, 1.0]),
    (Number(0, 1, open_high=True), "a number in [0, 1)", [0, 0.99], [1]),
    (Number(-2.5, 1, open_low=True), "a number in (-2.5, 1]", [-2.4, 1], [-2.5]),
    (OneOf(["a", "b"]), "one of 'a', 'b'", ["a", "b"], ["A", "c", "", None, 0]),
    (OneOf([None]), "None", [None], [0, False, "None"]),
    (OneOf([True, False]), "one of True, False", [True, False], [1, 0, np.True_, "True"]),
    (OneOf({"x": 1, "y": 2}), "one of 'x', 'y'", ["x"], [1]),
    (CALLABLE, "a callable", [len, lambda: 0], [3]),
]
IDS = [str(constraint) for constraint, *_ in CONSTRAINTS]


@pytest.mark.parametrize(("constraint", "text", "allowed", "refused"), CONSTRAINTS, ids=IDS)
def test_what_a_constraint_says_and_allows(constraint, text, allowed, refused):
    assert str(constraint) == text
    assert [value for value in allowed if not constraint.allows(value)] == []
    assert [value for value in refused if constraint.allows(value)] == []


@pytest.mark.parametrize("value", [[1], np.ones(2), {}, object()])
def test_values_of_any_type_are_judged(value):
    for constraint, *_ in CONSTRAINTS:
        assert constraint.allows(value) is False


def test_one_of_several_constraints_is_enough():
    constraints = {"n": (Whole(1), OneOf([None])), "s": (OneOf(["a"]),)}
    check_parameters("Owner", {"n": None, "s": "a"}, constraints)
    check_parameters("Owner", {"n": 3}, constraints)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "Owner: n must be an int of at least 1, or one of 'auto', 'all', or None; got 0"),
        (
            "aut",
            "Owner: n must be an int of at least 1, or one of 'auto', 'all', or None; got 'aut' (did you mean 'auto'?)",
        ),
        ("zzz", "Owner: n must be an int of at least 1, or one of 'auto', 'all', or None; got 'zzz'"),
        (True, "Owner: n must be an int of at least 1, or one of 'auto', 'all', or None; got True"),
    ],
)
def test_the_message_names_owner_parameter_expectation_value_and_what_was_meant(value, text):
    constraints = {"n": (Whole(1), OneOf(["auto", "all"]), OneOf([None]))}
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        check_parameters("Owner", {"n": value}, constraints)


def test_the_first_bad_parameter_is_named():
    constraints = {name: (Whole(1),) for name in ("a", "b", "c")}
    with pytest.raises(ValueError, match="Owner: b must be"):
        check_parameters("Owner", {"a": 1, "b": 0, "c": 0}, constraints)


def test_a_parameter_without_constraint_is_a_mistake_of_ours():
    with pytest.raises(KeyError, match="b"):
        check_parameters("Owner", {"b": 1}, {"a": (Whole(1),)})


def test_did_you_mean():
    names = ["dopri5", "tsit5", "rk4"]
    assert did_you_mean("dopri", names) == " (did you mean 'dopri5'?)"
    assert did_you_mean("tsit", names) == " (did you mean 'tsit5'?)"
    for other in ("heun", "", 5, None, ["rk4"]):
        assert did_you_mean(other, names) == ""


def test_a_name_in_other_letters_is_the_one_that_was_meant():
    assert did_you_mean("x", ["y", "X"]) == " (did you mean 'X'?)"
    assert did_you_mean(3, ["3"]) == ""
