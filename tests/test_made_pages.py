"""Pages that say by which command they are made are what that command prints."""

import re
import subprocess
import sys

import pytest

from tests.fixtures.machine import ROOT
from tests.support.pages import PAGES, name_of

LIMIT_S = 240.0
MADE_BY = re.compile(r"^Made (?:from the code )?by `python -m ([a-z_.]+)`", re.M)
MADE = {name_of(page): found[1] for page in PAGES if (found := MADE_BY.search(page.read_text()))}


def test_there_are_some() -> None:
    assert len(MADE) >= 6


@pytest.mark.parametrize("page", MADE)
def test_a_page_is_what_its_command_prints(page: str) -> None:
    argv = [sys.executable, "-m", MADE[page]]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=True).stdout

    assert printed == (ROOT / page).read_text(), f"run: python -m {MADE[page]} > {page}"
