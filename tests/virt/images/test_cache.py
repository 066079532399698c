"""virt/images/cache.py (with part_file and cache_records) against files, a web server, other processes and SIGKILL."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskvisor.model.errors import Busy, DoesNotFit, Refused, Retryable
from taskvisor.model.plan import CachedImage, Seed
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.virt.images.hostile_images import foreign
from tests.virt.images.image_server import ImageServer, running_image_server
from tests.virt.made_images import MIB, noise, partitioned, qcow2, qemu_img, read_disk, write_at
from virt import space
from virt.images import cache as image_cache
from virt.images import part_file
from virt.images.cache import LocalImageCache
from virt.images.source import SourceLimits
from virt.progress import ignore_progress
from virt.seeds.iso import iso_for

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[3]
LIMITS = SourceLimits(connect_time_limit_s=2.0, read_time_limit_s=20.0)
SIZE = 8 * MIB
RAW = partitioned(SIZE)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may handle it."""


@pytest.fixture(autouse=True)
def quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "LOCK_WAIT_S", 0.2)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with running_image_server() as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> LocalImageCache:
    return LocalImageCache(root, limits=LIMITS)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return qcow2(tmp_path / "image.qcow2")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ensure(cache: LocalImageCache, url: str, **declared: object) -> CachedImage:
    return cache.ensure_cached(ImageSource(url=url, **declared), ignore_progress)  # type: ignore[arg-type]


def files_in(root: Path) -> set[str]:
    """What is in the cache, locks aside."""
    found = (path for path in root.rglob("*") if path.is_file() and path.parent.name != "locks")
    return {path.name for path in found}


def parts_in(root: Path) -> list[Path]:
    return sorted((root / "sources").glob("*.part*"))


def wait_until(true: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


# Cold and warm


def test_a_file_is_cached_under_the_name_of_its_content(cache: LocalImageCache, root: Path, image: Path) -> None:
    name = sha256(image.read_bytes())
    found = ensure(cache, image.as_uri())
    assert found == CachedImage(
        path=str(root / name),
        sha256=name,
        format=ImageFormat.QCOW2,
        size_bytes=image.stat().st_size,
        virtual_bytes=4 * MIB,
    )
    assert (root / name).read_bytes() == image.read_bytes()
    assert (root / name).stat().st_mode & 0o777 == 0o444
    assert parts_in(root) == []


def test_the_source_is_copied_not_linked(cache: LocalImageCache, image: Path) -> None:
    found = ensure(cache, image.as_uri())
    before = Path(found.path).read_bytes()
    write_at(image, 100_000, b"changed")
    assert Path(found.path).read_bytes() == before


def test_a_warm_lookup_of_a_file_reads_no_image_and_runs_nothing(
    cache: LocalImageCache, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure(cache, image.as_uri())
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(part_file, "hashlib", None)
    assert ensure(cache, image.as_uri()) == first


def test_a_changed_file_is_another_image_and_both_are_kept(cache: LocalImageCache, tmp_path: Path) -> None:
    path = qcow2(tmp_path / "image", seed=1)
    first = ensure(cache, path.as_uri())
    qcow2(path, seed=2)
    second = ensure(cache, path.as_uri())
    assert first.sha256 != second.sha256
    assert Path(first.path).exists()
    assert sha256(Path(second.path).read_bytes()) == second.sha256


def test_the_last_use_is_noted(cache: LocalImageCache, root: Path, image: Path) -> None:
    found = ensure(cache, image.as_uri())
    record = root / f"{found.sha256}.json"
    os.utime(record, (1, 1))
    ensure(cache, image.as_uri())
    assert time.time() - record.stat().st_mtime < 60


def test_a_url_is_fetched_once(cache: LocalImageCache, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    first = ensure(cache, url)
    assert (first.format, first.virtual_bytes) == (ImageFormat.RAW, SIZE)
    assert ensure(cache, url) == first
    assert [request.status for request in server.requests] == [200, 304]


def test_a_new_content_of_a_url_is_fetched(cache: LocalImageCache, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    ensure(cache, url)
    other = partitioned(SIZE, seed=8)
    server.serve("/x", other, etag='"2"')
    assert ensure(cache, url).sha256 == sha256(other)


def test_a_declared_checksum_that_is_here_needs_no_source_at_all(cache: LocalImageCache, image: Path) -> None:
    name = sha256(image.read_bytes())
    found = ensure(cache, image.as_uri(), sha256=name)
    image.unlink()
    assert ensure(cache, image.as_uri(), sha256=name) == found
    assert ensure(cache, "http://127.0.0.1:1/gone", sha256=name) == found


def test_the_same_content_from_two_urls_is_one_file(cache: LocalImageCache, root: Path, server: ImageServer) -> None:
    one = ensure(cache, server.serve("/one", RAW, etag='"1"'))
    inode = Path(one.path).stat().st_ino
    assert ensure(cache, server.serve("/two", RAW, etag='"1"')) == one
    assert Path(one.path).stat().st_ino == inode
    assert parts_in(root) == []


def test_without_validators_a_url_is_fetched_each_time_but_kept_once(
    cache: LocalImageCache, server: ImageServer
) -> None:
    url = server.serve("/x", RAW)
    assert ensure(cache, url) == ensure(cache, url)
    assert len(server.transfers) == 2


def test_progress_tells_bytes_done_and_in_all(cache: LocalImageCache, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    reports: list[tuple[int, int | None]] = []
    cache.ensure_cached(ImageSource(url=url), lambda done, total: reports.append((done, total)))
    assert reports == sorted(reports)
    assert reports[-1] == (SIZE, SIZE)


def test_holes_of_a_raw_disk_stay_holes(cache: LocalImageCache, tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    path.write_bytes(partitioned(MIB))
    os.truncate(path, 200 * MIB)
    found = ensure(cache, path.as_uri())
    assert found.virtual_bytes == 200 * MIB
    assert Path(found.path).stat().st_blocks * 512 < 8 * MIB
    assert sha256(Path(found.path).read_bytes()) == found.sha256


def test_blocks_are_shared_where_the_file_system_can(
    cache: LocalImageCache, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def clone(target: int, request: int, source: int) -> int:  # ext4 cannot: what btrfs and XFS do, by copying
        asked.append(request)
        return os.sendfile(target, source, 0, image.stat().st_size)

    monkeypatch.setattr(part_file.fcntl, "ioctl", clone)  # type: ignore[attr-defined]
    found = ensure(cache, image.as_uri())
    assert asked == [0x40049409]
    assert found.sha256 == sha256(image.read_bytes()) == sha256(Path(found.path).read_bytes())


# Foreign images


@pytest.fixture
def foreign_image(tmp_path: Path) -> Path:
    return foreign("vmdk", "subformat=streamOptimized")(tmp_path / "image.vmdk")


def test_a_foreign_image_is_kept_as_the_qcow2_image_that_it_becomes(
    cache: LocalImageCache, root: Path, server: ImageServer, foreign_image: Path, tmp_path: Path
) -> None:
    url = server.serve("/x", foreign_image.read_bytes(), etag='"1"')
    found = ensure(cache, url)
    assert (found.format, found.virtual_bytes) == (ImageFormat.QCOW2, 8 * MIB)
    assert found.sha256 == sha256(Path(found.path).read_bytes()) == Path(found.path).name
    assert Path(found.path).stat().st_mode & 0o777 == 0o444
    assert read_disk(Path(found.path), tmp_path) == read_disk(foreign_image, tmp_path)
    original = sha256(foreign_image.read_bytes())
    images = {name for name in files_in(root) if "." not in name}
    assert images == {found.sha256}
    assert f"{original}.json" in files_in(root)  # leads from the original to it
    assert parts_in(root) == []


def test_a_foreign_image_is_fetched_and_converted_once(
    cache: LocalImageCache, server: ImageServer, foreign_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/x", foreign_image.read_bytes(), etag='"1"')
    first = ensure(cache, url)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert ensure(cache, url) == first
    assert len(server.transfers) == 1
    declared = sha256(foreign_image.read_bytes())  # of what was asked for, not of what it became
    assert ensure(cache, "http://127.0.0.1:1/gone", sha256=declared, format=ImageFormat.VMDK) == first
    with pytest.raises(Refused, match="declared qcow2 but is vmdk"):
        ensure(cache, url, format=ImageFormat.QCOW2)


def test_a_foreign_image_at_two_urls_is_converted_once(
    cache: LocalImageCache, server: ImageServer, foreign_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure(cache, server.serve("/x", foreign_image.read_bytes(), etag='"1"'))
    monkeypatch.setattr(image_cache, "convert", None)
    assert ensure(cache, server.serve("/y", foreign_image.read_bytes(), etag='"1"')) == first


def test_a_foreign_image_whose_qcow2_image_is_gone_is_fetched_and_converted_again(
    cache: LocalImageCache, server: ImageServer, foreign_image: Path
) -> None:
    url = server.serve("/x", foreign_image.read_bytes(), etag='"1"')
    first = ensure(cache, url)
    Path(first.path).unlink()
    assert Path(ensure(cache, url).path).exists()
    assert len(server.transfers) == 2


def test_progress_tells_of_the_transfer_then_of_the_conversion(
    cache: LocalImageCache, server: ImageServer, foreign_image: Path
) -> None:
    reports: list[tuple[int, int | None]] = []
    source = ImageSource(url=server.serve("/x", foreign_image.read_bytes(), etag='"1"'))
    cache.ensure_cached(source, lambda done, total: reports.append((done, total)))
    size_bytes = foreign_image.stat().st_size
    assert (size_bytes, size_bytes) in reports
    assert reports[-1] == (8 * MIB, 8 * MIB)


@pytest.mark.parametrize("step", ["inspect_image", "convert", "digest_of", "sync_file", "sync_directory"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_at_any_step_of_a_conversion_costs_no_second_transfer(
    cache: LocalImageCache,
    root: Path,
    server: ImageServer,
    foreign_image: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    moment: str,
) -> None:
    url = server.serve("/x", foreign_image.read_bytes(), etag='"1"')
    real = getattr(image_cache, step)

    def dying(*args: object, **kwargs: object) -> None:
        if moment == "after":
            real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(image_cache, step, dying)
        with pytest.raises(Killed):
            ensure(cache, url)
    assert ensure(cache, url).format is ImageFormat.QCOW2
    assert len(server.transfers) == 1
    assert parts_in(root) == []
    assert not list(root.rglob("*.converted"))


def test_an_iso_is_kept_as_it_is_and_read_as_raw(cache: LocalImageCache, tmp_path: Path) -> None:
    path = tmp_path / "image.iso"
    path.write_bytes(iso_for(Seed(meta_data="", user_data="", network_config="")))
    found = ensure(cache, path.as_uri())
    assert (found.format, found.sha256) == (ImageFormat.RAW, sha256(path.read_bytes()))
    for declared in (ImageFormat.ISO, ImageFormat.RAW):
        assert ensure(cache, path.as_uri(), format=declared) == found


def test_an_image_that_claims_too_large_a_disk_is_refused(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    qemu_img("create", "-q", "-f", "qcow2", path, "1T")
    assert path.stat().st_size < MIB
    with pytest.raises(Refused, match=r"claims a disk of 1024.00 GiB; it must be above 0 and at most 100.00 GiB"):
        ensure(LocalImageCache(root, virtual_limit_bytes=100 << 30), path.as_uri())
    assert files_in(root) == set()


# Refused


@pytest.mark.parametrize("content", [b"", b"hello\n", b"<html>404</html>" * 256, noise(MIB)])
def test_what_is_no_image_is_refused_and_leaves_nothing(
    cache: LocalImageCache, root: Path, server: ImageServer, content: bytes
) -> None:
    url = server.serve("/x", content, etag='"1"')
    for _ in range(2):
        with pytest.raises(Refused):
            ensure(cache, url)
        assert files_in(root) == set()


def test_an_image_with_a_backing_file_is_refused_and_leaves_nothing(
    cache: LocalImageCache, root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "evil.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path)
    with pytest.raises(Refused, match="has a backing file"):
        ensure(cache, path.as_uri())
    assert files_in(root) == set()


def test_a_wrong_checksum_is_refused_with_both_sums(cache: LocalImageCache, root: Path, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    with pytest.raises(Refused, match=f"has SHA-256 {sha256(RAW)}, and {'0' * 64} was declared"):
        ensure(cache, url, sha256="0" * 64)
    assert files_in(root) == set()


@pytest.mark.parametrize("checksum", ["abc", "../../etc/passwd", "A" * 64, ""])
def test_what_is_no_checksum_is_refused(cache: LocalImageCache, image: Path, checksum: str) -> None:
    with pytest.raises(Refused, match="is no SHA-256"):
        ensure(cache, image.as_uri(), sha256=checksum)


def test_a_declared_format_is_held_to_when_warm_too(cache: LocalImageCache, image: Path) -> None:
    for _ in range(2):
        with pytest.raises(Refused, match="declared raw but is qcow2"):
            ensure(cache, image.as_uri(), format=ImageFormat.RAW)
        ensure(cache, image.as_uri(), format=ImageFormat.QCOW2)


def test_raw_by_declaration_is_refused_to_who_does_not_declare_it(cache: LocalImageCache, tmp_path: Path) -> None:
    path = tmp_path / "noise.raw"
    path.write_bytes(noise(MIB))
    ensure(cache, path.as_uri(), format=ImageFormat.RAW)
    with pytest.raises(Refused, match="declare format raw"):
        ensure(cache, path.as_uri())


def test_a_url_that_is_gone_is_refused_although_its_image_is_here(cache: LocalImageCache, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    ensure(cache, url)
    server.serve("/x", b"", status=404)
    with pytest.raises(Refused, match="answers 404"):
        ensure(cache, url)


# Servers that fail


@pytest.mark.parametrize("etag", ['"1"', None])
def test_a_transfer_cut_again_and_again_comes_to_its_end(
    cache: LocalImageCache, server: ImageServer, etag: str | None
) -> None:
    url = server.serve("/x", RAW, etag=etag, modified_at=1_600_000_000.0, cut_after=3_000_000)
    assert ensure(cache, url).sha256 == sha256(RAW)
    assert [(request.offset or 0) % 3_000_000 for request in server.transfers] == [0, 0, 0]


def test_cuts_are_gone_on_from_by_the_next_call(cache: LocalImageCache, root: Path, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"', cut_after=400_000)
    with pytest.raises(Retryable, match="cut short"):
        ensure(cache, url)
    had_bytes = parts_in(root)[0].stat().st_size
    assert had_bytes == (part_file.RESUMES_IN_PLACE + 1) * 400_000
    server.requests.clear()
    server.paths["/x"].cut_after = None
    assert ensure(cache, url).sha256 == sha256(RAW)
    assert [request.offset for request in server.transfers] == [had_bytes]


def test_a_content_that_changes_between_two_cuts_is_not_spliced(cache: LocalImageCache, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"', cut_after=400_000)
    with pytest.raises(Retryable):
        ensure(cache, url)
    other = partitioned(SIZE, seed=8)
    server.serve("/x", other, etag='"2"')
    assert ensure(cache, url).sha256 == sha256(other)


def test_a_part_from_before_a_reboot_is_not_trusted(
    cache: LocalImageCache, server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/x", RAW, etag='"1"', cut_after=400_000)
    with pytest.raises(Retryable):
        ensure(cache, url)
    server.serve("/x", RAW, etag='"1"')
    server.requests.clear()
    other_boot = tmp_path / "boot_id"
    other_boot.write_text("another\n")
    monkeypatch.setattr(part_file, "_BOOT_ID", other_boot)
    assert ensure(cache, url).sha256 == sha256(RAW)
    assert [request.offset for request in server.transfers] == [None]


@pytest.mark.parametrize("sidecar", [b"", b'{"identity"', b"[]"])
def test_a_part_whose_sidecar_is_broken_is_begun_anew(
    cache: LocalImageCache, root: Path, server: ImageServer, sidecar: bytes
) -> None:
    url = server.serve("/x", RAW, etag='"1"', cut_after=400_000)
    with pytest.raises(Retryable):
        ensure(cache, url)
    parts_in(root)[1].write_bytes(sidecar)
    server.paths["/x"].cut_after = None
    assert ensure(cache, url).sha256 == sha256(RAW)


def test_pieces_that_make_no_whole_are_fetched_anew_before_the_checksum_is_blamed(
    cache: LocalImageCache, root: Path, server: ImageServer
) -> None:
    url = server.serve("/x", RAW, etag='"1"', cut_after=400_000)
    with pytest.raises(Retryable):
        ensure(cache, url)
    write_at(parts_in(root)[0], 1000, b"rot")
    server.paths["/x"].cut_after = None
    with pytest.raises(Retryable, match="several pieces, so it is fetched anew"):
        ensure(cache, url, sha256=sha256(RAW))
    assert ensure(cache, url, sha256=sha256(RAW)).sha256 == sha256(RAW)


def test_a_server_that_fails_is_retryable_when_nothing_is_here(cache: LocalImageCache, server: ImageServer) -> None:
    url = server.serve("/x", b"", status=500)
    with pytest.raises(Retryable, match="answers 500"):
        ensure(cache, url)


def test_a_silent_server_does_not_stop_builds_for_a_day(root: Path, server: ImageServer) -> None:
    cache = LocalImageCache(root, limits=LIMITS)
    url = server.serve("/x", RAW, etag='"1"')
    first = ensure(cache, url)
    server.serve("/x", b"", status=503)
    assert ensure(cache, url) == first
    link = next((root / "sources").glob("*.json"))
    yesterday = time.time() - 25 * 3600
    os.utime(link, (yesterday, yesterday))
    with pytest.raises(Retryable, match="answers 503"):
        ensure(cache, url)
    with pytest.raises(Retryable, match="answers 503"):
        ensure(LocalImageCache(root, limits=LIMITS, stale_use_limit_s=0.0), url)


def test_each_confirmation_starts_the_day_anew(cache: LocalImageCache, root: Path, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    ensure(cache, url)
    link = next((root / "sources").glob("*.json"))
    os.utime(link, (1, 1))
    ensure(cache, url)
    assert time.time() - link.stat().st_mtime < 60


# Damage


def test_a_cached_image_that_was_written_to_is_set_aside_and_fetched_anew(
    cache: LocalImageCache, root: Path, image: Path
) -> None:
    found = ensure(cache, image.as_uri())
    path = Path(found.path)
    path.chmod(0o644)
    write_at(path, 100_000, b"rot")
    assert ensure(cache, image.as_uri()) == found
    assert sha256(path.read_bytes()) == found.sha256
    assert (root / f"{found.sha256}.damaged").exists()


def test_a_cached_image_whose_time_alone_changed_is_believed_after_a_second_look(
    cache: LocalImageCache, root: Path, image: Path
) -> None:
    found = ensure(cache, image.as_uri())
    inode = Path(found.path).stat().st_ino
    os.utime(found.path, (1, 1))
    assert ensure(cache, image.as_uri()) == found
    assert Path(found.path).stat().st_ino == inode
    assert not (root / f"{found.sha256}.damaged").exists()


def test_lost_records_are_made_anew(cache: LocalImageCache, root: Path, image: Path) -> None:
    found = ensure(cache, image.as_uri())
    inode = Path(found.path).stat().st_ino
    for record in root.rglob("*.json"):
        record.unlink()
    assert ensure(cache, image.as_uri()) == found
    assert Path(found.path).stat().st_ino == inode


def test_a_removed_image_is_fetched_again(cache: LocalImageCache, image: Path) -> None:
    found = ensure(cache, image.as_uri())
    Path(found.path).unlink()
    assert ensure(cache, image.as_uri()) == found


# Full disks


def test_an_image_larger_than_the_free_space_is_not_begun(
    cache: LocalImageCache, root: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    monkeypatch.setattr(space, "read_space", lambda _: space.Space(total_bytes=SIZE, free_bytes=MIB))
    with pytest.raises(DoesNotFit, match=r"has 1.0 MiB free, and 8.0 MiB more are needed"):
        ensure(cache, url)
    assert files_in(root) == set()


def test_a_disk_that_fills_up_on_the_way_is_given_back_its_room(tmp_path: Path, server: ImageServer) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(mounted)], check=True, timeout=10)
    try:
        cache = LocalImageCache(mounted / "cache", limits=LIMITS)
        url = server.serve("/x", RAW, etag='"1"', announce_length=False)
        with pytest.raises(DoesNotFit, match=r"cannot fetch .*: the file system of .* has .* free"):
            ensure(cache, url)
        assert files_in(mounted / "cache") == set()
    finally:
        subprocess.run(["umount", str(mounted)], check=True, timeout=10)


# Other processes


def start_fetch(root: Path, url: str) -> "subprocess.Popen[str]":
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from taskvisor.model.records import ImageSource\nfrom taskvisor.model.errors import TaskvisorError\n"
        "from virt.images.cache import LocalImageCache\n"
        "try: print(LocalImageCache(Path(sys.argv[1])).ensure_cached(ImageSource(url=sys.argv[2]), lambda d, t: None).sha256)\n"
        "except TaskvisorError as error: print(error.code)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(root), url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_a_fetch_under_way_in_another_process_makes_us_busy_then_is_shared(
    cache: LocalImageCache, root: Path, server: ImageServer
) -> None:
    gate = threading.Event()
    url = server.serve("/x", RAW, etag='"1"', gate=gate)
    other = start_fetch(root, url)
    wait_until(lambda: len(parts_in(root)) == 2 and parts_in(root)[0].stat().st_size > 0)
    with pytest.raises(Busy, match="is being fetched by another process"):
        ensure(cache, url)
    gate.set()
    assert other.communicate(timeout=30)[0].split()[-1] == sha256(RAW)
    assert ensure(cache, url).sha256 == sha256(RAW)
    assert len(server.transfers) == 1


def test_a_fetch_that_ends_while_we_wait_is_shared(
    root: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "LOCK_WAIT_S", 20.0)
    gate = threading.Event()
    url = server.serve("/x", RAW, etag='"1"', gate=gate)
    other = start_fetch(root, url)
    wait_until(lambda: len(server.requests) == 1)
    threading.Timer(0.1, gate.set).start()
    assert ensure(LocalImageCache(root, limits=LIMITS), url).sha256 == sha256(RAW)
    assert other.communicate(timeout=30)[0].split()[-1] == sha256(RAW)
    assert len(server.transfers) == 1


def test_what_a_killed_process_had_fetched_is_not_fetched_again(
    cache: LocalImageCache, root: Path, server: ImageServer
) -> None:
    url = server.serve("/x", RAW, etag='"1"', gate=threading.Event())
    other = start_fetch(root, url)
    wait_until(lambda: len(parts_in(root)) == 2 and parts_in(root)[0].stat().st_size >= 3 * MIB)
    other.send_signal(signal.SIGKILL)
    other.communicate(timeout=10)
    had_bytes = parts_in(root)[0].stat().st_size
    server.serve("/x", RAW, etag='"1"')
    server.requests.clear()
    assert ensure(cache, url).sha256 == sha256(RAW)
    assert [(request.offset, request.if_range) for request in server.transfers] == [(had_bytes, '"1"')]
    assert parts_in(root) == []


STEPS = ["_check_content", "inspect_image", "sync_file", "sync_directory"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_at_any_step_between_fetch_and_name_costs_no_second_transfer(
    cache: LocalImageCache, root: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    real = getattr(image_cache, step)

    def dying(*args: object, **kwargs: object) -> None:
        if moment == "after":
            real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(image_cache, step, dying)
        with pytest.raises(Killed):
            ensure(cache, url)
    assert ensure(cache, url).sha256 == sha256(RAW)
    assert len(server.transfers) == 1
    assert parts_in(root) == []


def test_limits_are_kept(root: Path, server: ImageServer) -> None:
    url = server.serve("/x", RAW, etag='"1"')
    with pytest.raises(Refused, match=r"images may have 1.0 MiB at most"):
        ensure(LocalImageCache(root, max_image_bytes=MIB), url)
    assert files_in(root) == set()
