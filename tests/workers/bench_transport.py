"""Compare the stock transport with ours: tasks per second and the worker's CPU time per task, in one run.

    python -m tests.workers.bench_transport [messages] [rounds]

The queue is filled first, so the rate is the worker's own. The two take turns, because a machine's speed drifts. CPU time
is that of the worker's parent process (the transport's part) and of the whole tree.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .conftest import RedisServer, Worker, message, running_worker, wait_until

POOLS = ("prefork", "threads")
TRANSPORTS = ("stock", "reliable")


@dataclass(frozen=True, kw_only=True)
class Result:
    tasks_per_s: float
    parent_us_per_task: float
    tree_us_per_task: float


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    directory = Path(tempfile.mkdtemp(prefix="tv-", dir="/tmp"))
    server = RedisServer(directory)
    server.start()
    try:
        print(
            f"{messages} messages, {rounds} rounds, medians, 2 processes or threads, late acknowledgement, prefetch 1\n"
        )
        print(f"{'pool':8} {'transport':10} {'tasks/s':>8} {'parent us/task':>15} {'tree us/task':>13}")
        for pool in POOLS:
            report(pool, measure(server, pool, messages, rounds))
    finally:
        server.kill()
        shutil.rmtree(directory)


def report(pool: str, results: dict[str, Result]) -> None:
    for transport, result in results.items():
        numbers = f"{result.tasks_per_s:8.0f} {result.parent_us_per_task:15.0f} {result.tree_us_per_task:13.0f}"
        print(f"{pool:8} {transport:10} {numbers}")
    stock, ours = (results[transport] for transport in TRANSPORTS)
    ratios = (
        ours.tasks_per_s / stock.tasks_per_s,
        ours.parent_us_per_task / stock.parent_us_per_task,
        ours.tree_us_per_task / stock.tree_us_per_task,
    )
    print(f"{pool:8} {'ratio':10} {ratios[0]:8.2f} {ratios[1]:15.2f} {ratios[2]:13.2f}\n")


def measure(server: RedisServer, pool: str, messages: int, rounds: int) -> dict[str, Result]:
    results: dict[str, list[Result]] = {transport: [] for transport in TRANSPORTS}
    for _ in range(rounds):
        for transport in TRANSPORTS:
            results[transport].append(run(server, pool, transport, messages))
    return {transport: median(runs) for transport, runs in results.items()}


def median(runs: list[Result]) -> Result:
    return Result(
        tasks_per_s=statistics.median(one.tasks_per_s for one in runs),
        parent_us_per_task=statistics.median(one.parent_us_per_task for one in runs),
        tree_us_per_task=statistics.median(one.tree_us_per_task for one in runs),
    )


def run(server: RedisServer, pool: str, transport: str, messages: int) -> Result:
    client = server.client()
    client.flushall()
    traces = Path(tempfile.mkdtemp(prefix="tv-bench-"))
    try:
        with running_worker(server, traces, pool=pool, transport=transport, log_level="warning") as worker:
            client.lpush("host.a", message("warm"))
            worker.wait_for("warm")
            cpu_before = cpu_seconds(worker)
            began = time.monotonic()
            client.lpush("host.a", *(message(task="probe.nothing") for _ in range(messages)))
            wait_until(lambda: not client.exists("host.a", "unacked", "host.a.inflight.kvm07"), "all run", 600.0)
            took_s = time.monotonic() - began
            parent_s, tree_s = (after - before for before, after in zip(cpu_before, cpu_seconds(worker), strict=True))
    finally:
        shutil.rmtree(traces)
    return Result(
        tasks_per_s=messages / took_s,
        parent_us_per_task=parent_s / messages * 1e6,
        tree_us_per_task=tree_s / messages * 1e6,
    )


def cpu_seconds(worker: Worker) -> tuple[float, float]:
    """Of the parent process, and of it and its children."""
    pid = str(worker.process.pid)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    per_process = [_cpu_seconds_of(one) for one in (pid, *children)]
    return per_process[0], sum(per_process)


def _cpu_seconds_of(pid: str) -> float:
    """proc(5): after the command, in brackets, user and system time are the 12th and 13th field."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
