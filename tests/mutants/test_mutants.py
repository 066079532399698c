"""Every mutant still applies, and the trial tells those that are noticed from those that are not."""

import sys
from pathlib import Path

import pytest

from tests.fixtures.machine import ROOT
from tests.mutants.__main__ import main
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import DoesNotApply, Edit, Mutant
from tests.mutants.trial import Fate, Ran, Workshop, verdict_on


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_applies_and_is_a_program(mutant: Mutant) -> None:
    originals = {file: (ROOT / file).read_text() for file in mutant.files}
    for file, text in mutant.applied_to(originals).items():
        assert text != originals[file]
        compile(text, file, "exec")


def test_the_tests_that_ought_to_notice_are_there() -> None:
    parts = {part for mutant in MUTANTS for part in mutant.tests}
    assert [part for part in sorted(parts) if not (ROOT / part).exists()] == []


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("old", ["three", "one"], ids=["gone", "twice"])
def test_a_mutant_whose_text_is_not_there_once_is_told(old: str) -> None:
    with pytest.raises(DoesNotApply, match="times, not once"):
        Edit(file="a.py", old=old, new="two").applied_to("one one")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A workshop for a tree of one module, one promise of which is tested."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "adding.py").write_text(
        "def plus(one, other):\n    return one + other\n\n\ndef shown(sum):\n    return 'sum'\n"
    )
    (tree / "test_adding.py").write_text("import adding\n\n\ndef test_sums():\n    assert adding.plus(2, 3) == 5\n")
    return Workshop(tree, tmp_path / "copy")


def adding(old: str, new: str) -> Mutant:
    return Mutant(
        name="one",
        promise="it adds",
        edits=(Edit(file="adding.py", old=old, new=new),),
        suite=("test_adding.py",),
    )


def test_a_mutant_that_a_test_notices_is_killed_by_that_test(workshop: Workshop) -> None:
    trial = workshop.try_out(adding("one + other", "one - other"))

    assert (trial.fate, trial.said) == (Fate.KILLED, ("test_adding.py::test_sums",))


def test_a_mutant_that_no_test_notices_survived(workshop: Workshop) -> None:
    assert workshop.try_out(adding("'sum'", "'mus'")).fate is Fate.SURVIVED


def test_a_mutant_whose_tests_cannot_be_run_says_nothing(workshop: Workshop) -> None:
    assert workshop.try_out(adding("def plus", "def minus(:\n\ndef plus")).fate is Fate.BROKEN
    assert workshop.try_out(adding("subtract", "add")).fate is Fate.BROKEN


def test_each_mutant_is_alone_in_the_copy_and_the_tree_is_as_it_was(workshop: Workshop, tmp_path: Path) -> None:
    """Also when both have the same size and come within one second: compiled files are told apart by no more than that."""
    for _ in range(2):
        assert workshop.try_out(adding("one + other", "one - other")).fate is Fate.KILLED
        assert workshop.run_tests(["test_adding.py"]).code == 0

    texts = [(tmp_path / where / "adding.py").read_text() for where in ("tree", "copy")]
    assert texts[0] == texts[1]
    assert workshop.where_is("adding") == tmp_path / "copy" / "adding.py"


def test_a_run_that_fails_without_naming_a_test_says_nothing() -> None:
    assert verdict_on(Ran(code=1, output="no summary"))[0] is Fate.BROKEN
    assert verdict_on(Ran(code=None, output=""))[0] is Fate.BROKEN


def test_failed_tests_are_read_from_the_summary() -> None:
    output = "FAILED tests/a.py::test_b[one two] - assert 1 == 2\nERROR tests/c.py::test_d\nFAILED tests/e.py::test_f\n"

    assert Ran(code=1, output=output).failed_tests == (
        "tests/a.py::test_b[one two]",
        "tests/c.py::test_d",
        "tests/e.py::test_f",
    )


def test_the_command_lists_and_names_what_it_does_not_know(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(sys, "argv", ["mutants", "--list"])
    assert main() == 0
    assert MUTANTS[0].name in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["mutants", "--only", "no-such-mutant"])
    assert main() == 2
    assert "no-such-mutant" in capsys.readouterr().err
