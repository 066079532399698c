"""The runbook says of a STUCK operation what the product says."""

import re

import pytest

from taskvisor.compute.identity import Clash
from tests.fixtures.machine import ROOT

PAGE = (ROOT / "docs" / "runbook.md").read_text()
STUCK = PAGE[PAGE.index("## STUCK") : PAGE.index("## When something dies")]
SENTENCES = re.findall(r'^\| "([^"]+)" \|', STUCK, re.MULTILINE)


def source_of(*folders: str) -> dict[str, str]:
    """The text of each module in the folders, but for simulated ones, with literals that go on over lines joined."""
    return {
        str(path.relative_to(ROOT)): re.sub(r'"\s*\n\s*f?"', "", path.read_text())
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "simulated" not in str(path)
    }


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_of_the_runbook_is_one_of_the_products(sentence: str) -> None:
    assert [name for name, text in source_of("virt", "net").items() if sentence in text] != []


def test_every_contradiction_of_the_adapters_is_in_the_runbook() -> None:
    raised = [
        (name, found)
        for name, text in source_of("virt", "net").items()
        for found in re.findall(r"raise Contradiction\((.*?)\)(?: from error)?\n", text, re.DOTALL)
    ]

    assert raised
    assert [(name, found) for name, found in raised if not any(sentence in found for sentence in SENTENCES)] == []


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
IDENTITY = OPERATIONS[OPERATIONS.index("## Who a host is") : OPERATIONS.index("## Filters")]
REFUSALS = re.findall(r'^\| "([^"]+)" \|', IDENTITY, re.MULTILINE)


@pytest.mark.parametrize("sentence", REFUSALS)
def test_a_refused_start_is_told_in_the_runbook_as_the_product_tells_it(sentence: str) -> None:
    assert [name for name, text in source_of("workers", "taskvisor").items() if sentence in text] != []


def test_the_runbook_has_a_row_for_every_clash_of_an_identity() -> None:
    assert len(REFUSALS) >= len(Clash)
