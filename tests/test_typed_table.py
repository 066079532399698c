"""Every command line of the pages is run by a test, and no test runs one that no page has any more. Nothing is run here."""

import re

import pytest

from tests.fixtures.machine import ROOT
from tests.support.pages import PAGES, commands_of
from tests.system.typed.acts import Act, acts_of, besides, typed, what_is_wrong_with
from tests.system.typed.book import CHAPTERS, WITH_REAL_GUESTS
from tests.system.typed.hosts import OPENING

ON_PAGES = {one.words for page in PAGES for one in commands_of(page)}
ACTS = [act for chapter in (OPENING, *CHAPTERS.values()) for act in acts_of(chapter)]
TYPED = [act for act in ACTS if not act.besides]


def test_every_command_line_of_the_pages_is_typed_by_a_test() -> None:
    run = {act.page_words for act in TYPED}

    assert sorted(ON_PAGES - run) == [], "add an act to tests/system/typed that types it and looks at what it says"


def test_no_test_types_a_line_that_no_page_has() -> None:
    assert [str(act) for act in TYPED if act.page_words not in ON_PAGES] == []


def test_what_the_story_needs_besides_is_on_no_page() -> None:
    assert [str(act) for act in ACTS if act.besides and act.page_words in ON_PAGES] == [], "say typed, not besides"


@pytest.mark.parametrize("act", ACTS, ids=str)
def test_an_act_leaves_nothing_to_be_filled_in_and_looks_at_what_is_said(act: Act) -> None:
    assert what_is_wrong_with(act) == ""
    for pattern in (*act.says, *act.keeps.values()):
        re.compile(pattern)


@pytest.mark.parametrize("line", WITH_REAL_GUESTS)
def test_what_simulated_guests_cannot_do_is_typed_at_real_ones(line: str) -> None:
    file, _, name = WITH_REAL_GUESTS[line].partition("::")
    text = (ROOT / file).read_text()

    assert tuple(line.split()) in ON_PAGES
    assert re.search(rf"^def {name}\(", text, re.M)
    assert f'"{line.split(maxsplit=1)[0]}"' in text


@pytest.mark.parametrize(
    "act",
    [
        typed("delete NAME", "x"),
        typed("launch … --dry-run", "x"),
        typed("delete NAME", "x", given={"NAME": "a", "HOST": "b"}),
        typed("list"),
        besides("group set web1 web [--port 10.7.0.2]", "x"),
    ],
    ids=str,
)
def test_an_act_that_means_nothing_is_noticed(act: Act) -> None:
    assert what_is_wrong_with(act) != ""
