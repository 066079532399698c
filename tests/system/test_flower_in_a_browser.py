"""What a person sees of Flower: the timeline of a build, found by its instance's name, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.browser import Browser, open_browser
from tests.system.nodes import Nodes, running_nodes
from tests.system.test_flower import IMAGE, LIMIT_S, SEEN, SMALL, require_hearing, window

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

SEARCH = "#tasks-table_filter input"
ROWS = "[...document.querySelectorAll('#tasks-table tbody tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
HEADINGS = "[...document.querySelectorAll('.dataTables_scrollHead th')].map(cell => cell.innerText.trim())"
CREDENTIALS = "ops:secret"


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_state_dir) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def test_who_types_an_instances_name_sees_the_timeline_of_its_build(
    nodes: Nodes, browser: Browser, tmp_path: Path
) -> None:
    with window(nodes, FLOWER_BASIC_AUTH=CREDENTIALS) as url:
        require_hearing(nodes, url, CREDENTIALS)
        for name in ("web1", "db1"):
            nodes.ask("instance.build", name=name, image=IMAGE, flavor=SMALL)
        nodes.send("instance.build", name="bad1", image="/nowhere.qcow2", flavor=SMALL).get(LIMIT_S, propagate=False)

        browser.open(url.replace("://", f"://{CREDENTIALS}@") + "/tasks")
        browser.wait_for(
            f"document.querySelectorAll('#tasks-table tbody tr').length >= {len(SEEN)}", "the table of tasks"
        )
        assert {"db1", "web1"} <= {row[1].partition(",")[0] for row in rows_of(browser)}
        find(browser, "web1")

        timeline = rows_of(browser)
        browser.screenshot(tmp_path / "timeline.png")
        assert {row[0] for row in timeline} >= SEEN
        assert {row[2] for row in timeline} == {"SUCCESS"}
        assert "web1 on kvm1" in [row[3] for row in timeline]
        assert {row[6] for row in timeline if row[0].startswith("build.")} == {"steps@kvm1"}

        find(browser, "bad1")
        (failed,) = (row for row in rows_of(browser) if row[0] == "instance.build")
        assert failed[2] == "FAILURE"
        assert failed[3].startswith("Refused: fetch_image: there is no image")

        browser.click(f"tr[id='{failed[7]}'] a[href*='/task/']")
        page = browser.wait_for(
            "location.pathname.startsWith('/task/') && document.body.innerText", "the page of a task"
        )
        browser.screenshot(tmp_path / "task.png")
        assert "bad1" in page
        assert "Refused" in page


def rows_of(browser: Browser) -> list[list[str]]:
    """The cells of the rows that are shown."""
    found: list[list[str]] = browser.evaluate(ROWS)
    return found


def find(browser: Browser, name: str) -> None:
    """A person types the name into the search, in place of what is there; the table shows what is about it, and nothing else."""
    browser.click(SEARCH)
    browser.evaluate(f"document.querySelector('{SEARCH}').select()")
    browser.type(name)
    about = f"{ROWS}.every(cells => (cells[1] || '').startsWith('{name}'))"
    browser.wait_for(f"{about} && {ROWS}.length > 1", f"the tasks of {name} alone")
