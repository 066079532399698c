"""`python -m tests.simulate`: many seeds, or one again. Prints what is needed to repeat a run in which something broke."""

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.fixtures.redis_servers import RedisServer
from tests.simulate.faults import ALL_FAULTS, Fault
from tests.simulate.simulation import Broken, Ended, Simulation
from tests.simulate.story import Story

EVENTS = 150


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many runs (%(default)s)")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="the first seed (%(default)s)")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--events", type=int, default=EVENTS, help="events until the faults stop (%(default)s)")
    parser.add_argument("--without", type=Fault, action="append", default=[], choices=ALL_FAULTS, metavar="KIND")
    parser.add_argument("--keep-going", action="store_true", help="don't stop at the first run that breaks")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell all that happens")
    return parser.parse_args()


def main() -> int:
    asked = parse_arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seeds = [asked.seed] if asked.seed is not None else range(asked.first, asked.first + asked.seeds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a Redis that nobody stops would stay
    server = RedisServer(Path(tempfile.mkdtemp(prefix="tvt-redis-")))
    began_at, events, broken = time.monotonic(), 0, 0
    try:
        server.start()
        for seed in seeds:
            ended = run_seed(seed, server, asked)
            events += ended.events if isinstance(ended, Ended) else ended.event
            if isinstance(ended, Broken):
                broken += 1
                tell(ended, asked)
                if not asked.keep_going:
                    break
    finally:
        server.stop()
        shutil.rmtree(server.directory)
    taken_s = time.monotonic() - began_at
    print(f"{len(seeds)} seeds asked, {events} events in {taken_s:.1f} s ({events / taken_s:.0f}/s), {broken} broken")
    return 1 if broken else 0


def run_seed(seed: int, server: RedisServer, asked: argparse.Namespace) -> Ended | Broken:
    """The run of that seed, on an empty database and in an empty directory in memory."""
    server.flush(0)
    without = frozenset(asked.without)
    with tempfile.TemporaryDirectory(prefix="tvt-", dir="/dev/shm") as directory:
        story = Story(aloud=asked.verbose)
        ended = Simulation(seed, server.url(), Path(directory), without=without, story=story).run(asked.events)
    if asked.verbose and isinstance(ended, Ended):
        print(f"digest {ended.digest}")
    return ended


def tell(broken: Broken, asked: argparse.Namespace) -> None:
    without = "".join(f" --without {kind}" for kind in asked.without)
    print(*broken.last, sep="\n")
    print(f"seed {broken.seed}, event {broken.event}: {broken.invariant}")
    print(f"again: python -m tests.simulate --seed {broken.seed} --events {asked.events}{without} -v\n")


if __name__ == "__main__":
    sys.exit(main())
