"""Several processes share the tests out as tests/fixtures/turns.py says."""

from pathlib import Path

import pytest

from tests.fixtures.machine import ROOT
from tests.fixtures.turns import LONGEST_FIRST, ONE_BY_ONE, turn_of, unit_of


def test_every_file_that_is_named_is_there() -> None:
    assert [file for file in LONGEST_FIRST if not (ROOT / file).exists()] == []
    assert len(set(LONGEST_FIRST)) == len(LONGEST_FIRST)


@pytest.mark.parametrize("beginning", ONE_BY_ONE)
def test_what_is_given_out_one_by_one_is_marked_crash_and_shares_nothing(beginning: str) -> None:
    files = [
        path for path in Path(ROOT, "tests").rglob("test_*.py") if str(path.relative_to(ROOT)).startswith(beginning)
    ]
    assert files
    for path in files:
        text = path.read_text()
        assert "\npytestmark = pytest.mark.crash\n" in text, path
        assert text.count("scope=") == text.count('@pytest.fixture(autouse=True, scope="module")\ndef no_logs'), path


def test_tests_of_a_file_stay_together_but_for_those_marked_crash() -> None:
    assert unit_of("tests/virt/test_events.py::test_one[a]") == "tests/virt/test_events.py"
    assert unit_of("tests/tasks/test_crashes.py::test_one[a::b]") == "tests/tasks/test_crashes.py::test_one[a::b]"


def test_the_longest_come_first_then_what_is_real_then_crashes_then_the_rest() -> None:
    files = [
        "tests/model/test_ids.py",
        "tests/tasks/test_crashes.py",
        "tests/net/test_mtu.py",
        *reversed(LONGEST_FIRST),
    ]
    in_turn = sorted(files, key=lambda file: turn_of(file, real=file == "tests/net/test_mtu.py"))
    assert in_turn == [
        *LONGEST_FIRST,
        "tests/net/test_mtu.py",
        "tests/tasks/test_crashes.py",
        "tests/model/test_ids.py",
    ]
