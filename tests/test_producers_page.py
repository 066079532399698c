"""What docs/producers.md says of messages, tasks and arguments is so."""

import base64
import copy
import json
import re
from typing import Any

import pytest

from tasks.requests import REQUESTS
from tests.fixtures.machine import ROOT
from workers.envelope import Envelope, Malformed, check_envelope

PAGE = (ROOT / "docs" / "producers.md").read_text()
TASKS = dict(re.findall(r"^\| (`[a-z_.`, ]+`) \| (.*) \|$", PAGE.partition("### One NIC")[0], re.M))
PARTS = dict(re.findall(r"^\| `([a-z._-]+)` \| (yes|no) \|", PAGE, re.M))
JSON = re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)
SHOWN: dict[str, Any] = json.loads(JSON[0])
WHOLE: dict[str, Any] = {
    **SHOWN,
    "headers": {
        **SHOWN["headers"],
        "expires": "2999-01-01T00:00:00+00:00",
        "eta": "2026-01-01T00:00:00+00:00",
        "ignore_result": False,
        "lang": "js",
        "origin": "shop",
        "argsrepr": "[]",
        "kwargsrepr": "{}",
        "compression": None,
    },
    "properties": {
        **SHOWN["properties"],
        "correlation_id": "x",
        "reply_to": "",
        "delivery_tag": "x",
        "delivery_info": {"exchange": "", "routing_key": "compute"},
        "priority": 0,
    },
}


def test_the_message_shown_is_what_a_worker_takes() -> None:
    verdict = check_envelope(json.dumps(SHOWN).encode(), queue="compute")

    assert isinstance(verdict, Envelope)
    assert verdict.body == [[], {"instance": "web1"}, {}]
    assert json.loads(base64.b64decode(SHOWN["body"])) == [[], {"instance": "web1"}, {}]
    assert SHOWN["headers"]["task"] in REQUESTS


@pytest.mark.parametrize("path", PARTS)
def test_what_is_called_needed_is_needed_and_nothing_else(path: str) -> None:
    message = copy.deepcopy(WHOLE)
    *above, last = path.split(".")
    holder = message[above[0]] if above else message
    del holder[last]
    if path == "properties.body_encoding":
        message["body"] = base64.b64decode(SHOWN["body"]).decode()
    if path == "properties":
        message["body"] = base64.b64decode(SHOWN["body"]).decode()

    verdict = check_envelope(json.dumps(message).encode(), queue="compute")

    assert isinstance(verdict, Malformed) == (PARTS[path] == "yes")


def test_every_part_of_a_message_is_told_of() -> None:
    parts = {key for key in WHOLE if key != "headers"}
    for holder in ("headers", "properties"):
        parts |= {f"{holder}.{key}" for key in WHOLE[holder]}

    assert parts == PARTS.keys()


def test_every_task_is_told_of_with_its_arguments() -> None:
    told = {name: row for names, row in TASKS.items() for name in re.findall(r"`([a-z_.]+)`", names)}

    assert told.keys() == REQUESTS.keys()
    for task, request in REQUESTS.items():
        fields = request.takes.model_fields
        missing = [name for name in fields if f"`{name}`" not in told[task] and "as `instance.build`" not in told[task]]
        assert not missing or task in ("host.plan_drain",), (task, missing)
