"""Flower over a real node: a build is found by its instance's name, step by step, and ticks don't drown it."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flower
import psutil
import pytest
from flower.options import default_options
from flower.utils.authentication import authenticate, validate_auth_option
from kombu.utils.imports import symbol_by_name

from tests.deploy.redis_processes import free_port
from tests.fixtures.machine import ROOT
from tests.system.nodes import Nodes, running_nodes, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PAGE = (ROOT / "docs" / "operations.md").read_text()

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
LIMIT_S = 120.0
COLUMNS = ("name", "kwargs", "state", "result", "received", "runtime", "worker")
SEEN = {
    "instance.build",
    *(f"build.{step}" for step in ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start")),
}


@contextmanager
def window(nodes: Nodes, **options: str) -> Iterator[str]:
    """`taskvisor flower`; where it answers."""
    port = free_port()
    environment = {
        **os.environ,
        "TASKVISOR_REDIS_URL": nodes.redis_url,
        "TASKVISOR_STATE_DIR": str(nodes.state_dir),
        "TASKVISOR_HOST": nodes.host,
        "TASKVISOR_FLOWER_PORT": str(port),
        "PYTHONPATH": str(ROOT),
        **options,
    }
    log = nodes.state_dir / "flower.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskvisor.cli", "flower"], env=environment, stdout=file, stderr=file
        )
    try:
        wait_until(
            lambda: status_of(f"http://127.0.0.1:{port}/healthcheck") != 0, f"Flower: {log.read_text()}", LIMIT_S
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def require_hearing(nodes: Nodes, url: str, credentials: str = "") -> None:
    """Flower shows what somebody asked for. It says that it is connected before it hears, so it is asked until it tells."""

    def hears() -> bool:
        nodes.send("instance.delete", instance="nobody").get(timeout=LIMIT_S, propagate=False)
        return any(row["name"] == "instance.delete" for row in rows(url, credentials=credentials))

    wait_until(hears, "Flower to hear", LIMIT_S)


class _Stays(urllib.request.HTTPRedirectHandler):
    """Goes where it was sent, and no further: no request leaves this machine."""

    def redirect_request(self, *_: object) -> None:
        return None


_HERE = urllib.request.build_opener(_Stays)


def status_of(url: str, credentials: str = "") -> int:
    """What HTTP says of a page; 0 when nobody is there."""
    try:
        with _HERE.open(_asked(url, credentials), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def where_to(url: str) -> str:
    """Where the answer sends the browser to."""
    with pytest.raises(urllib.error.HTTPError) as sent:
        _HERE.open(url, timeout=30)
    assert sent.value.code == 302
    return str(sent.value.headers["Location"])


def _asked(url: str, credentials: str) -> urllib.request.Request:
    headers = {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"} if credentials else {}
    return urllib.request.Request(url, headers=headers)  # noqa: S310 - likewise


def rows(url: str, search: str = "", credentials: str = "") -> list[dict[str, Any]]:
    """The rows of the page of tasks, as its table asks for them. `credentials` are NAME:PASSWORD, where Flower asks for some."""
    fields = {
        "draw": 1,
        "start": 0,
        "length": 100,
        "search[value]": search,
        "order[0][column]": 4,
        "order[0][dir]": "asc",
    }
    fields |= {f"columns[{number}][data]": name for number, name in enumerate(COLUMNS)}
    query = urllib.parse.urlencode(fields)
    with urllib.request.urlopen(_asked(f"{url}/tasks/datatable?{query}", credentials), timeout=30) as answer:  # noqa: S310 - likewise
        found: list[dict[str, Any]] = json.load(answer)["data"]
    return found


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_state_dir) as running:
        yield running


def test_a_build_is_found_by_its_instances_name_step_by_step(nodes: Nodes) -> None:
    with window(nodes) as url:
        require_hearing(nodes, url)
        nodes.ask("instance.build", name="web1", image=IMAGE, flavor=SMALL)
        failed = nodes.send("instance.build", name="bad1", image="/nowhere.qcow2", flavor=SMALL)
        failed.get(timeout=LIMIT_S, propagate=False)

        wait_until(lambda: {row["name"] for row in rows(url, "web1")} >= SEEN, f"the build: {rows(url)}", LIMIT_S)
        timeline = {row["name"]: row for row in rows(url, "web1")}
        assert {row["state"] for row in timeline.values()} == {"SUCCESS"}
        assert timeline["build.plug_vif"]["kwargs"] == "web1"
        assert timeline["build.plug_vif"]["worker"] == "steps@kvm1"
        assert timeline["instance.build"]["result"] == "web1 on kvm1"
        wait_until(lambda: _failure(url).startswith("Refused: fetch_image: there is no image"), _failure(url), LIMIT_S)
        assert [
            row["name"] for row in rows(url) if row["name"] in ("host.fan_out", "operation.sweep", "host.track")
        ] == []


def _failure(url: str) -> str:
    return next((str(row["result"]) for row in rows(url, "bad1") if row["name"] == "instance.build"), "")


def test_a_request_is_told_in_progress_after_each_step_but_the_last(nodes: Nodes) -> None:
    told: list[str] = []
    with nodes.producer.connection() as connection:
        receiver = nodes.producer.events.Receiver(
            connection, handlers={"task-progress": lambda event: told.append(event["result"]), "*": lambda _: None}
        )
        heard = receiver.itercapture(limit=None, timeout=LIMIT_S, wakeup=False)
        next(heard)  # a heartbeat: it listens
        built = nodes.send("instance.build", name="web1", image=IMAGE, flavor=SMALL)
        deadline = time.monotonic() + LIMIT_S
        while len(told) < 4 and time.monotonic() < deadline:
            next(heard)

    assert told == [
        "1 of 5, next: fetch_image",
        "2 of 5, next: render_xml",
        "3 of 5, next: plug_vif",
        "4 of 5, next: define_and_start",
    ]
    assert built.get(timeout=LIMIT_S)["vm_state"] == "active"


def test_the_page_of_queues_tells_how_many_wait_in_each(nodes: Nodes) -> None:
    nodes.kill("control")
    waiting = [nodes.send("instance.delete", instance="nobody") for _ in range(3)]
    with window(nodes) as url, urllib.request.urlopen(f"{url}/broker", timeout=30) as answer:  # noqa: S310 - likewise
        page = re.sub(r"<[^>]*>|\s+", " ", answer.read().decode())
    nodes.start("control", concurrency=1)
    for one in waiting:
        one.get(timeout=LIMIT_S, propagate=False)

    assert re.search(r"compute +3 ", page), page


OPS = "ops:secret"


def test_with_a_password_nobody_looks_in_without_it(nodes: Nodes) -> None:
    with window(nodes, FLOWER_BASIC_AUTH=OPS) as url:
        for place in (
            "/tasks",
            "/workers",
            "/broker",
            "/tasks/datatable",
            "/api/workers",
            "/api/tasks",
            "/api/queues/length",
        ):
            assert status_of(f"{url}{place}") == 401, place
            assert status_of(f"{url}{place}", "ops:guessed") == 401, place
        for place in ("/tasks", "/api/tasks"):
            assert status_of(f"{url}{place}", OPS) == 200, place
        assert listening_addresses(url) == {"127.0.0.1"}


def test_without_a_password_its_page_is_open_to_this_machine_alone_and_its_api_to_nobody(nodes: Nodes) -> None:
    with window(nodes, FLOWER_BASIC_AUTH="") as url:  # as a compose file has it where nobody set one
        assert status_of(f"{url}/tasks") == 200
        assert status_of(f"{url}/api/tasks") == 401
        assert listening_addresses(url) == {"127.0.0.1"}


def test_with_oauth_as_documented_who_comes_is_sent_to_the_provider(nodes: Nodes) -> None:
    options = {**documented_oauth(), "FLOWER_OAUTH2_KEY": "key-1", "FLOWER_OAUTH2_SECRET": "secret-1"}
    with window(nodes, **options) as url:
        first = where_to(f"{url}/tasks")
        assert urllib.parse.urlsplit(first).path == "/login"
        provider = urllib.parse.urlsplit(where_to(f"{url}{first}"))  # and no further
        asked = dict(urllib.parse.parse_qsl(provider.query))
        assert (provider.hostname, asked["client_id"]) == ("github.com", "key-1")
        assert asked["redirect_uri"] == options["FLOWER_OAUTH2_REDIRECT_URI"]
        assert urllib.parse.urlsplit(where_to(f"{url}/api/tasks")).path == "/login"


def documented_oauth() -> dict[str, str]:
    """The variables of OAuth as docs/operations.md has them, those with a value."""
    return dict(re.findall(r"`(FLOWER_(?:AUTH|OAUTH2)\w*)=([^`]+)`", PAGE))


def test_who_may_come_in_by_oauth_is_who_the_page_says() -> None:
    pattern = documented_oauth()["FLOWER_AUTH"]

    assert validate_auth_option(pattern)
    assert authenticate(pattern, "anna.b@example.org")
    assert not authenticate(pattern, "anna@example.com")
    assert not authenticate(pattern, "anna@exampleXorg")


def test_the_documented_variables_of_flowers_are_there() -> None:
    by_itself = (Path(flower.__file__).parent / "views" / "auth.py").read_text()  # reads some beside the options
    named = set(re.findall(r"(?<![A-Z_])FLOWER_[A-Z0-9_]+", PAGE))

    assert {"FLOWER_BASIC_AUTH", "FLOWER_AUTH_PROVIDER", "FLOWER_READ_ONLY"} <= named
    assert [
        name for name in named if name.removeprefix("FLOWER_").lower() not in default_options and name not in by_itself
    ] == []
    for provider in re.findall(r"flower\.views\.auth\.\w+", PAGE):
        assert symbol_by_name(provider)  # type: ignore[no-untyped-call]


def listening_addresses(url: str) -> set[str]:
    """Where sockets of this machine listen at the URL's port."""
    port = urllib.parse.urlsplit(url).port
    listening = (one.laddr for one in psutil.net_connections("inet") if one.status == "LISTEN")
    return {address.ip for address in listening if address and address.port == port}
