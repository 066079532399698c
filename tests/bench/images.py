"""`python -m tests.bench.images`: what it costs to fetch and convert an image of 1 GiB, beside bare qemu-img in the same run.

Each turn is a process of its own, so that its peak of memory is its own too. What ours does and bare qemu-img does not:
the transfer, SHA-256 of what came and of what it became, inspection, `qemu-img check`. Both end with the image on disk.
"""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import IO

import psutil

from taskvisor.model.records import ImageSource
from tests.bench.report import Row, p50, progress, table
from virt.durable import sync_file
from virt.images.cache import LocalImageCache
from virt.progress import ignore_progress

IMAGE_MIB = 1024
ROUNDS = 3
TURN_LIMIT_S = 1800.0
CHILD_LOOK_S = 0.01
FORMATS = {
    "vmdk, sparse": ("vmdk", "subformat=monolithicSparse"),
    "vmdk, streamOptimized": ("vmdk", "subformat=streamOptimized"),
    "vhdx": ("vhdx", "subformat=dynamic"),
}
BARE, BY_FILE, BY_HTTP = "bare qemu-img convert", "ours, from a file", "ours, over HTTP"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One image brought to where it is used. Memory is the peak of the process, and of the largest qemu-img it started."""

    seconds: float
    own_mib: float
    child_mib: float


def main() -> int:
    """0 when all was measured, whatever came out."""
    from tests.bench.__main__ import load_and_yardstick  # not for a turn's process: its memory is measured

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is left on disk is put away then too
    print(load_and_yardstick("at the start"))
    with tempfile.TemporaryDirectory(prefix="taskvisor-bench-") as name, _serving(Path(name)) as url:
        directory = Path(name)
        progress("making the images")
        raw = _half_noise(directory / "raw")
        for what, (kind, option) in FORMATS.items():
            image = directory / f"image.{kind}"
            _qemu_img("convert", "-f", "raw", "-O", kind, "-o", option, raw, image)
            print(_table(what, kind, image, _measured(what, kind, image, f"{url}/{image.name}")))
            image.unlink()
    print(load_and_yardstick("at the end"))
    progress("done")
    return 0


def _half_noise(path: Path) -> Path:
    """A disk of which every second MiB is noise, and the others are text: compressible by half."""
    chance = Random(7)
    text = (b"all work and no play makes a dull disk\n" * 27_000)[: 1 << 20]
    with path.open("wb") as file:
        for _ in range(IMAGE_MIB // 2):
            file.write(chance.randbytes(1 << 20))
            file.write(text)
    return path


def _measured(what: str, kind: str, image: Path, url: str) -> Mapping[str, Sequence[Turn]]:
    turns: dict[str, list[Turn]] = {BARE: [], BY_FILE: [], BY_HTTP: []}
    for number in range(1, ROUNDS + 1):
        progress(f"{what}: round {number} of {ROUNDS}")
        turns[BARE].append(_turn("bare", kind, str(image)))
        turns[BY_FILE].append(_turn("ours", kind, image.as_uri()))
        turns[BY_HTTP].append(_turn("ours", kind, url))
    return turns


def _table(what: str, kind: str, image: Path, turns: Mapping[str, Sequence[Turn]]) -> str:
    bare_s = p50([turn.seconds for turn in turns[BARE]])
    bare_mib = max(turn.child_mib for turn in turns[BARE])
    rows = []
    for way, some in turns.items():
        seconds, child_mib = p50([turn.seconds for turn in some]), max(turn.child_mib for turn in some)
        rows.append(Row(what=f"{way}, p50", value=f"{seconds:.2f} s", aim=f"{seconds / bare_s:.2f} of bare"))
        rows.append(
            Row(what="  peak of qemu-img", value=f"{child_mib:.0f} MiB", aim=f"{child_mib / bare_mib:.2f} of bare")
        )
        if way != BARE:
            own_mib = max(turn.own_mib for turn in some)
            rows.append(Row(what="  peak of the worker's process (Python)", value=f"{own_mib:.0f} MiB"))
    size_mib = image.stat().st_size / (1 << 20)
    return table(f"{what} ({kind}), a disk of {IMAGE_MIB} MiB in a file of {size_mib:.0f} MiB; {ROUNDS} of each", rows)


def _turn(way: str, kind: str, source: str) -> Turn:
    argv = [sys.executable, "-m", "tests.bench.images", way, kind, source]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TURN_LIMIT_S, check=True)
    return Turn(**json.loads(done.stdout.splitlines()[-1]))


def _one_turn(way: str, kind: str, source: str) -> None:
    """In a process of its own: do it once, and say what it took."""
    target = Path(tempfile.mkdtemp(prefix="taskvisor-bench-"))
    try:
        with _watched_children() as child_kib:
            began = time.perf_counter()
            if way == "bare":
                _qemu_img("convert", "-f", kind, "-O", "qcow2", source, target / "image")
                sync_file(target / "image")
            else:
                LocalImageCache(target).ensure_cached(ImageSource(url=source), ignore_progress)
            seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(target)
    own_mib = max(_peaks_kib("self")) / 1024
    print(json.dumps(asdict(Turn(seconds=seconds, own_mib=own_mib, child_mib=max(child_kib) / 1024))))


@contextmanager
def _watched_children() -> Iterator[list[int]]:
    """The peaks that were seen of the qemu-img that this process started."""
    peaks_kib, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(CHILD_LOOK_S):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error, OSError):
                    if child.name() == "qemu-img":
                        peaks_kib.extend(_peaks_kib(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks_kib
    finally:
        ended.set()
        watcher.join()


def _peaks_kib(process: int | str) -> Sequence[int]:
    """The peak of a process's resident memory; none when it has ended. rusage would count what it was forked from."""
    return [int(peak) for peak in re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())]


@contextmanager
def _serving(directory: Path) -> Iterator[str]:
    """The directory, on loopback, by a process of its own."""
    argv = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(directory), "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield f"http://127.0.0.1:{_port_said(server.stdout)}"
        finally:
            server.terminate()


def _port_said(stdout: IO[str] | None) -> str:
    line = stdout.readline() if stdout is not None else ""
    match = re.search(r"port (\d+)", line)
    if match is None:
        raise RuntimeError(f"the web server did not start: {line!r}")
    return match[1]


def _qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, timeout=TURN_LIMIT_S, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _one_turn(*sys.argv[1:4])
    else:
        sys.exit(main())
