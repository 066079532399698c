"""All chapters, and which tests type at real guests what simulated ones can't do. Says nothing of its own."""

from collections.abc import Mapping

from tests.system.typed import fleet, guests, hosts, looking, troubles
from tests.system.typed.acts import Chapter

CHAPTERS: Mapping[str, Chapter] = {
    "the first vm": guests.FIRST_VM,
    "the demo": guests.DEMO,
    "images and flavors": guests.IMAGES_AND_FLAVORS,
    "a guest at rest": guests.AT_REST,
    "networks": fleet.NETWORKS,
    "volumes": fleet.VOLUMES,
    "placement": fleet.PLACEMENT,
    "maintenance": hosts.MAINTENANCE,
    "services": hosts.SERVICES,
    "a machine alone": hosts.UP,
    "another machine": hosts.ANOTHER_MACHINE,
    "events": looking.EVENTS,
    "webhooks": looking.WEBHOOKS,
    "what is measured": looking.MEASURED,
    "a stuck operation": troubles.STUCK,
    "an operation that is cancelled": troubles.CANCELLED,
    "differences": troubles.DIFFERENCES,
    "an orphan": troubles.ORPHAN,
    "a lost store": troubles.LOST_STORE,
}
"""Each begins with a fleet that has nothing, and leaves it so; they may be played in any order."""


WITH_REAL_GUESTS: Mapping[str, str] = {
    "console ID": "tests/virt/test_serial_console.py::test_a_person_reads_types_and_leaves",
    "vnc NAME": "tests/cli/test_vnc.py::test_a_real_guests_screen_is_seen_by_the_url_that_is_printed",
}
"""What is refused of a simulated guest, in a sentence that a chapter looks at; and the test that types it at a real one."""
