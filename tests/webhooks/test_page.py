"""docs/events.md says what the code does."""

import re
import time
from typing import Any, get_type_hints

from taskvisor.model.event import EventKind, EventView
from taskvisor.model.host_mark import HostAct
from taskvisor.model.states import Phase
from taskvisor.settings import Settings
from taskvisor.webhooks.signing import signed_headers
from tests.fixtures.machine import ROOT
from tests.webhooks.receiver import KEY, SECRET

PAGE = (ROOT / "docs" / "events.md").read_text()


def test_every_field_and_each_closed_word_is_on_the_page() -> None:
    fields = PAGE.partition("## Fields")[2].partition("## Webhooks")[0]
    words = set(re.findall(r"`([a-z_.]+)`", fields))
    assert set(get_type_hints(EventView)) <= words
    assert {*map(str, EventKind), *map(str, Phase), *map(str, HostAct)} <= words


def test_every_setting_of_webhooks_is_on_the_page_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        if name.startswith("webhook_"):
            default = f"{field.default:g}" if isinstance(field.default, float | int) else field.default or "none"
            assert f"| `TASKVISOR_{name.upper()}` | {default} |" in PAGE, name


def test_the_pages_own_lines_check_a_signature() -> None:
    lines = PAGE.rpartition("```python\n")[2].partition("```")[0]
    page: dict[str, Any] = {}
    exec(lines, page)  # noqa: S102 - our own page
    now = int(time.time())
    headers = signed_headers((b"x" * 32, KEY), message_id="1-0", at=now, body=b"{}")
    assert page["is_ours"](headers, b"{}", SECRET)
    assert not page["is_ours"](headers, b"{ }", SECRET)
    late = signed_headers((KEY,), message_id="1-0", at=now - 4000, body=b"{}")
    assert not page["is_ours"](late, b"{}", SECRET)
