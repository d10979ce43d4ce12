"""Every mistake of the table in examples/ gets the answer that stands there: of the right type, in clear words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from bad_input_cases import CHAPTERS, Mistake, World, answer_of, as_markdown, make_world, readable
from clear_errors import complaints_about

from latentode.exceptions import LatentODEWarning

PAGE = Path(__file__).resolve().parents[2] / "examples" / "bad_input.md"
MISTAKES = [(chapter, mistake) for chapter, mistakes in CHAPTERS.items() for mistake in mistakes]
FEWEST = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LatentODEWarning)
        return make_world(tmp_path_factory.mktemp("models"))


def answers(world: World) -> Iterator[tuple[str, str, str, str]]:
    for chapter, mistake in MISTAKES:
        error = answer_of(mistake, world)
        assert error is not None, mistake.given
        yield chapter, mistake.given, type(error).__name__, readable(error, world)


def test_there_are_many_mistakes_and_none_twice():
    assert len(MISTAKES) >= FEWEST
    assert len({(chapter, mistake.given) for chapter, mistake in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize("mistake", [mistake for _, mistake in MISTAKES], ids=lambda mistake: mistake.given)
def test_a_mistake_is_answered_clearly(mistake: Mistake, world: World):
    error = answer_of(mistake, world)
    assert isinstance(error, mistake.error), error
    assert not complaints_about(error)


@pytest.mark.skipif(pd.__version__ < "3", reason="the page names dtypes as pandas 3 calls them")
def test_the_page_is_up_to_date(world: World):
    page = as_markdown(answers(world))
    if os.environ.get("LATENTODE_WRITE_BAD_INPUT") == "1":
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page
