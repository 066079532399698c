"""Every command line of README.md and docs/ is typed, each as a process of its own, and does what the page says.

The fleet is real (Redis, three workers, beat), its guests are simulated. What is typed, and what must come of it, is in
`tests/system/typed`; that no line of the pages is missing there is proved by `tests/test_typed_table.py`.
"""

from collections.abc import Iterator

import pytest

from tests.system.typed.book import CHAPTERS
from tests.system.typed.hosts import OPENING
from tests.system.typed.scene import Scene, open_scene
from tests.webhooks.receiver import SECRET, receiving

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Three hosts that are up and have nothing, beat, and somebody who takes webhooks. All of it ends well."""
    with open_scene() as made, receiving() as receiver:
        secret = made.directory / "secret"
        secret.write_text(SECRET)
        made.known |= {"receiver": receiver.url(), "secret_file": str(secret)}
        made.play(OPENING)
        yield made
        made.end(*made.staying)


@pytest.mark.parametrize("name", CHAPTERS)
def test_what_the_pages_tell_to_type_does_what_they_say(scene: Scene, name: str) -> None:
    scene.play(CHAPTERS[name])

    assert [one.name for one in scene.catalog.list_instances()] == []
    assert [one.id for one in scene.catalog.list_under_way(limit=10)] == []
    assert [one.name for one in scene.hosts.list_hosts() if not one.up or one.disabled_reason] == []
