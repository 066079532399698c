"""Pages that are made from the code say what the code says; links lead somewhere; the map is whole; the site can be made."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.settings_page import settings_page
from tasks.states_page import states_page
from tasks.steps_page import steps_page
from tests.fixtures.machine import ROOT
from tests.support.pages import CODE, PAGES, anchors_of, links_of, name_of, prose_of
from virt.options.page import options_page

LIMIT_S = 240
FOLDERS = ("taskvisor", "tasks", "workers", "virt", "net")
ARCHITECTURE = prose_of((ROOT / "docs" / "architecture.md").read_text())


def test_the_page_of_steps_is_fresh() -> None:
    assert (ROOT / "docs" / "steps.md").read_text() == steps_page(), "run: python -m tasks.steps_page > docs/steps.md"


def test_the_page_of_guest_options_is_fresh() -> None:
    command = "python -m virt.options.page > docs/guest-options.md"
    assert (ROOT / "docs" / "guest-options.md").read_text() == options_page(), f"run: {command}"


def test_the_page_of_states_is_fresh() -> None:
    command = "python -m tasks.states_page > docs/states.md"
    assert (ROOT / "docs" / "states.md").read_text() == states_page(), f"run: {command}"


def test_the_page_of_settings_is_fresh() -> None:
    command = "python -m tasks.settings_page > docs/settings.md"
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(), f"run: {command}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links_of(page.read_text()) if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize("link", ["nowhere.md", "#nowhere", "events.md#nowhere", "schema/nowhere.json"])
def test_one_that_leads_nowhere_is_noticed(link: str) -> None:
    assert not leads_somewhere(ROOT / "docs" / "operations.md", link)


def leads_somewhere(page: Path, link: str) -> bool:
    """A file of the repository, and an anchor in it; what is elsewhere is not asked for."""
    if "://" in link:
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors_of(target.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_row_of_a_table_has_a_head(page: Path) -> None:
    """A blank line within a table ends it, and what follows is shown as text."""
    lines = prose_of(page.read_text()).splitlines()
    heads = [
        here for here, line in enumerate(lines) if re.match(r" *\|", line) and not re.match(r" *\|", lines[here - 1])
    ]

    assert [lines[head] for head in heads if not re.fullmatch(r" *\|(:?-+:?\|)+", lines[head + 1])] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(page: Path) -> None:
    cells = 0
    wrong = []
    for line in prose_of(page.read_text()).splitlines():
        if not re.match(r" *\|", line):
            cells = 0
            continue
        found = len(re.findall(r"(?<!\\)\|", line))
        cells = cells or found
        if found != cells:
            wrong.append(line)

    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_stands_in_an_item_of_a_list_is_indented_by_four(page: Path) -> None:
    """The site's Markdown ends a list at a block or paragraph that is indented by less, and counts anew after it."""
    assert re.findall(r"^ {1,3}(?:```|\|).*|(?<=\n\n) {1,3}\S.*", page.read_text(), re.M) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_an_item_that_follows_a_paragraph_of_another_item_is_parted_from_it(page: Path) -> None:
    """Without a blank line between them the site's Markdown takes the item for a sentence of the paragraph."""
    paragraphs = re.split(r"\n\s*\n", prose_of(page.read_text()))
    assert [one for one in paragraphs if re.match(r" {4}[^ \d-].*\n(?:.*\n)*(?:\d+\.|-) ", one)] == []


def test_what_the_map_of_the_code_names_is_there() -> None:
    named = {name for code in CODE.findall(ARCHITECTURE) for name in re.findall(r"[a-z_]+(?:/[a-z_]+)+(?:\.py)?", code)}

    assert named
    assert [name for name in sorted(named) if not is_of_the_tree(name)] == []


def is_of_the_tree(name: str) -> bool:
    """A module or folder, from the root or from `taskvisor/`; `source_…` is several."""
    return any(
        [*folder.glob(name), *folder.glob(f"{name}.py"), *folder.glob(f"{name}*.py")]
        for folder in (ROOT, ROOT / "taskvisor")
    )


def test_every_package_is_on_the_map_of_the_code() -> None:
    packages = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")}
    names = {package: package.relative_to(ROOT).parts for package in packages}

    assert [parts for parts in names.values() if not re.search(rf"\b{parts[-1]}\b", ARCHITECTURE)] == []


@pytest.mark.real
def test_the_pages_are_a_site_and_every_one_is_in_its_navigation(tmp_path: Path) -> None:
    """`--strict`: a page that is left out, a link or an anchor that is not there ends it."""
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert made.returncode == 0, made.stderr
    pages = list(tmp_path.glob("*.html"))
    assert {page.stem for page in pages} >= {page.stem for page in PAGES if page.name != "README.md"} | {"index"}
    assert not [page for page in pages if re.search(r"<(script|link|img)[^>]*(src|href)=.https?:", page.read_text())]
