"""`python -m tests.bench.client`: what a producer and a person wait for: the import, requests a second, the first line on screen.

Each figure stands beside one of the same run that it can be held against: Python alone, and plain Celery's `send_task`. No
worker runs while requests are counted; the command's first line is of a fleet of one simulated host with real workers.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import uuid4

from celery import Celery

from taskvisor.client import Taskvisor
from taskvisor.model.urls import celery_url_for
from tests.bench.report import Row, milliseconds, p50, progress, table
from tests.fixtures.machine import ROOT
from tests.fixtures.redis_servers import RedisServer
from tests.system.nodes import Nodes, running_nodes

IMPORTS = {"Python alone": "pass", "taskvisor.client": "import taskvisor.client", "celery": "import celery.app.base"}
IMPORT_ROUNDS = 15
IMPORT_AIM_S = 0.3
REQUESTS = 1_000
ROUNDS = 3
THREADS = 8
LAUNCHES = 7
FIELDS = {"image": "simulated://debian", "flavor": "c1-m64-d1"}


@dataclass(frozen=True, kw_only=True)
class FirstLine:
    """Of one `taskvisor launch`: since the process was begun."""

    first_s: float
    all_s: float


def main() -> int:
    """Prints the tables."""
    progress("imports")
    print(import_table())
    with tempfile.TemporaryDirectory(prefix="tvt-") as directory:
        server = RedisServer(Path(directory) / "redis")
        server.start()
        try:
            progress("requests")
            print(request_table(server))
            progress("the first line")
            print(screen_table(server, Path(directory)))
        finally:
            server.stop()
    return 0


def import_table() -> str:
    """In turn, so that what else the machine does meets all of them."""
    times: dict[str, list[float]] = {what: [] for what in IMPORTS}
    for _ in range(IMPORT_ROUNDS):
        for what, program in IMPORTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
            times[what].append(time.perf_counter() - began)
    bare_s = p50(times["Python alone"])
    rows = [Row(what=what, value=milliseconds(p50(times[what]))) for what in IMPORTS]
    ours_s = p50(times["taskvisor.client"]) - bare_s
    aim = f"at most {milliseconds(IMPORT_AIM_S)}"
    rows.append(Row(what="import taskvisor.client", value=milliseconds(ours_s), aim=aim, met=ours_s <= IMPORT_AIM_S))
    return table("A process that imports, p50", rows)


def request_table(server: RedisServer) -> str:
    """How many a second are sent, and each is in the queue before the next is sent."""
    url = celery_url_for(server.url())
    app = Celery("plain", broker=url, backend=url, set_as_current=False)
    numbers = count()

    def plain(_: int) -> None:
        fields = {"name": f"web-{next(numbers)}", **FIELDS}
        app.send_task("instance.build", kwargs=fields, queue="compute", task_id=str(uuid4()), ignore_result=True)

    with Taskvisor(server.url()) as client:

        def ours(_: int) -> None:
            client.build(name=f"web-{next(numbers)}", image=FIELDS["image"], flavor=FIELDS["flavor"])

        rates: dict[str, list[float]] = {"plain Celery": [], "the client": [], f"the client, {THREADS} threads": []}
        for _ in range(ROUNDS):
            rates["plain Celery"].append(_rate(server, lambda: list(map(plain, range(REQUESTS)))))
            rates["the client"].append(_rate(server, lambda: list(map(ours, range(REQUESTS)))))
            with ThreadPoolExecutor(THREADS) as pool:
                rates[f"the client, {THREADS} threads"].append(
                    _rate(server, lambda: list(pool.map(ours, range(REQUESTS))))
                )
    plain_per_s = p50(rates["plain Celery"])
    rows = [
        Row(what=what, value=f"{p50(found):.0f}/s", other=f"{p50(found) / plain_per_s:.2f} of plain Celery's")
        for what, found in rates.items()
    ]
    return table("Requests sent by one producer, p50 of the rounds", rows)


def _rate(server: RedisServer, send_all: Callable[[], Sequence[None]]) -> float:
    began = time.perf_counter()
    send_all()
    elapsed_s = time.perf_counter() - began
    server.flush(0)
    return REQUESTS / elapsed_s


def screen_table(server: RedisServer, directory: Path) -> str:
    """What a person sees of `taskvisor launch`, and how long `taskvisor list` takes."""
    state_dir = directory / "state"
    state_dir.mkdir()
    with running_nodes(server.url(), state_dir) as nodes:
        launches = [launched(nodes, f"web-{number}") for number in range(LAUNCHES)]
        listed = [_timed_list(nodes) for _ in range(LAUNCHES)]
    bare = []
    for _ in range(LAUNCHES):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - began)
    rows = [
        Row(what="launch: until the first line", value=milliseconds(p50([one.first_s for one in launches]))),
        Row(what="launch: until it ends", value=milliseconds(p50([one.all_s for one in launches]))),
        Row(what="list", value=milliseconds(p50(listed))),
        Row(what="Python alone", value=milliseconds(p50(bare))),
    ]
    return table("A command, from its start, p50", rows)


def launched(nodes: Nodes, name: str) -> FirstLine:
    """One guest, by the command as a person types it."""
    words = ["launch", FIELDS["image"], "--name", name, "--flavor", FIELDS["flavor"]]
    began = time.perf_counter()
    argv = [sys.executable, "-m", "taskvisor.cli", *words]
    # What is told goes to standard error while it goes on, and the outcome to standard output.
    with subprocess.Popen(argv, env=nodes.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        first_s = time.perf_counter() - began
        rest = process.stdout.read()
    if process.returncode != 0:
        raise RuntimeError((first + rest).decode())
    return FirstLine(first_s=first_s, all_s=time.perf_counter() - began)


def _timed_list(nodes: Nodes) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "taskvisor.cli", "list"], env=nodes.environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
