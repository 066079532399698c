"""What an ImageCache promises of files (taskvisor/flow/ports.py). What it promises of HTTP needs a server: see tests/virt."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from taskvisor.flow.ports import ImageCache
from taskvisor.model.errors import Refused
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.contract.plans import MIB, ignore_progress
from tests.contract.processes import repeat_at_once
from virt.images.cache import LocalImageCache
from virt.simulated import SimulatedImageCache


@dataclass(frozen=True, kw_only=True)
class ImagesHost:
    """A host's image cache. `open_port` may be pickled, and opened in another process."""

    open_port: Callable[[], ImageCache]
    port: ImageCache


@pytest.fixture(params=[SimulatedImageCache, LocalImageCache], ids=["simulated", "real"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> ImagesHost:
    """A host with nothing in its cache."""
    open_port = partial(request.param, tmp_path / "state")
    return ImagesHost(open_port=open_port, port=open_port())


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    """A qcow2 image of 4 MiB."""
    path = tmp_path / "image.qcow2"
    _qemu_img("create", "-f", "qcow2", path, "4M")
    return path


@pytest.fixture
def partitioned(tmp_path: Path) -> Path:
    """A raw disk of 1 MiB with an MBR."""
    path = tmp_path / "disk.raw"
    path.write_bytes(
        bytes(446) + b"\x80\0\1\0\x83\0\1\0\1\0\0\0\xff\7\0\0" + bytes(48) + b"\x55\xaa" + bytes(MIB - 512)
    )
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A raw disk of 1 MiB that bears no sign of being one."""
    path = tmp_path / "bare.raw"
    path.write_bytes(b"data" * (MIB // 4))
    return path


def of(path: Path, *, digest: str | None = None, image_format: ImageFormat | None = None) -> ImageSource:
    """The source for that file."""
    return ImageSource(url=path.as_uri(), sha256=digest, format=image_format)


def digest_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_cached_images_are_listed_by_their_content(host: ImagesHost, qcow2: Path, partitioned: Path) -> None:
    assert host.port.list_cached() == ()
    made = [host.port.ensure_cached(of(path), ignore_progress).sha256 for path in (qcow2, partitioned, qcow2)]
    assert host.port.list_cached() == host.open_port().list_cached() == tuple(sorted(set(made)))


def test_a_cached_image_is_there_and_named_by_its_content(host: ImagesHost, qcow2: Path) -> None:
    image = host.port.ensure_cached(of(qcow2), ignore_progress)
    assert Path(image.path).is_file()
    assert image.path != str(qcow2)
    assert image.sha256 == digest_of(qcow2)
    assert (image.format, image.virtual_bytes) == (ImageFormat.QCOW2, 4 * MIB)
    assert image.size_bytes == qcow2.stat().st_size


def test_a_raw_disk_with_a_partition_table_is_known(host: ImagesHost, partitioned: Path) -> None:
    image = host.port.ensure_cached(of(partitioned), ignore_progress)
    assert (image.format, image.virtual_bytes) == (ImageFormat.RAW, MIB)


def test_a_raw_disk_without_any_sign_must_be_declared(host: ImagesHost, bare: Path) -> None:
    with pytest.raises(Refused):
        host.port.ensure_cached(of(bare), ignore_progress)
    image = host.port.ensure_cached(of(bare, image_format=ImageFormat.RAW), ignore_progress)
    assert (image.format, image.virtual_bytes) == (ImageFormat.RAW, MIB)


def test_whether_an_image_is_taken_does_not_depend_on_who_asked_before(host: ImagesHost, bare: Path) -> None:
    host.port.ensure_cached(of(bare, image_format=ImageFormat.RAW), ignore_progress)
    with pytest.raises(Refused):
        host.port.ensure_cached(of(bare), ignore_progress)


def test_an_image_asked_for_twice_is_the_same(host: ImagesHost, qcow2: Path) -> None:
    image = host.port.ensure_cached(of(qcow2), ignore_progress)
    before = Path(image.path).stat()
    assert host.port.ensure_cached(of(qcow2), ignore_progress) == image
    assert (Path(image.path).stat().st_ino, Path(image.path).stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_declared_rightly_changes_nothing(host: ImagesHost, qcow2: Path) -> None:
    image = host.port.ensure_cached(of(qcow2), ignore_progress)
    declared = of(qcow2, digest=digest_of(qcow2), image_format=ImageFormat.QCOW2)
    assert host.port.ensure_cached(declared, ignore_progress) == image


def test_another_format_than_declared_is_refused(host: ImagesHost, qcow2: Path, partitioned: Path) -> None:
    for path, declared in ((qcow2, ImageFormat.RAW), (partitioned, ImageFormat.QCOW2)):
        with pytest.raises(Refused):
            host.port.ensure_cached(of(path, image_format=declared), ignore_progress)


def test_another_checksum_than_declared_is_refused(host: ImagesHost, qcow2: Path) -> None:
    for _ in range(2):
        with pytest.raises(Refused):
            host.port.ensure_cached(of(qcow2, digest="0" * 64), ignore_progress)


def test_another_checksum_than_declared_is_refused_also_when_the_image_is_cached(host: ImagesHost, qcow2: Path) -> None:
    host.port.ensure_cached(of(qcow2), ignore_progress)
    with pytest.raises(Refused):
        host.port.ensure_cached(of(qcow2, digest="0" * 64), ignore_progress)


def test_an_image_with_a_backing_file_is_refused(host: ImagesHost, qcow2: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    _qemu_img("create", "-f", "qcow2", "-b", qcow2, "-F", "qcow2", overlay)
    with pytest.raises(Refused):
        host.port.ensure_cached(of(overlay), ignore_progress)


def test_an_image_with_an_external_data_file_is_refused(host: ImagesHost, tmp_path: Path) -> None:
    image = tmp_path / "external.qcow2"
    _qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data.raw'}", image, "4M")
    with pytest.raises(Refused):
        host.port.ensure_cached(of(image), ignore_progress)


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>", b"QFI\xfb and then nothing"])
@pytest.mark.parametrize("declared", [None, ImageFormat.QCOW2])
def test_what_is_no_image_is_refused(
    host: ImagesHost, tmp_path: Path, content: bytes, declared: ImageFormat | None
) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(content)
    with pytest.raises(Refused):
        host.port.ensure_cached(of(path, image_format=declared), ignore_progress)


def test_a_file_that_is_not_there_is_refused(host: ImagesHost, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        host.port.ensure_cached(of(tmp_path / "nowhere.qcow2"), ignore_progress)


def test_a_directory_is_no_image(host: ImagesHost, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        host.port.ensure_cached(of(tmp_path), ignore_progress)


def test_a_scheme_that_nobody_knows_is_refused(host: ImagesHost) -> None:
    with pytest.raises(Refused):
        host.port.ensure_cached(ImageSource(url="gopher://images/disk"), ignore_progress)


def test_a_file_written_anew_is_another_image(host: ImagesHost, qcow2: Path) -> None:
    before = host.port.ensure_cached(of(qcow2), ignore_progress)
    qcow2.unlink()
    _qemu_img("create", "-f", "qcow2", qcow2, "5M")
    after = host.port.ensure_cached(of(qcow2), ignore_progress)
    assert (after.sha256, after.virtual_bytes) == (digest_of(qcow2), 5 * MIB)
    assert Path(before.path).is_file()  # guests stand on it


def test_a_name_with_blanks_and_signs_is_found(host: ImagesHost, qcow2: Path, tmp_path: Path) -> None:
    path = tmp_path / "my disk #1 (50%).qcow2"
    qcow2.rename(path)
    assert host.port.ensure_cached(of(path), ignore_progress).sha256 == digest_of(path)


def test_progress_ends_with_the_size_of_the_image(host: ImagesHost, qcow2: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    host.port.ensure_cached(of(qcow2), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (qcow2.stat().st_size, qcow2.stat().st_size)


def test_two_processes_at_once_cache_one_image(host: ImagesHost, qcow2: Path) -> None:
    calls = [("ensure_cached", (of(qcow2), ignore_progress))] * 5
    repeat_at_once(host.open_port, [calls, calls])
    image = host.port.ensure_cached(of(qcow2), ignore_progress)
    assert image.sha256 == digest_of(qcow2)
    beside = [path for path in Path(image.path).parent.iterdir() if path.is_file() and path.suffix != ".json"]
    assert beside == [Path(image.path)]  # each once; records apart


def _qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", words[0], "-q", *words[1:]], check=True, timeout=30)


def test_what_was_asked_for_lately_is_not_evicted_by_age(host: ImagesHost, qcow2: Path) -> None:
    cached = host.port.ensure_cached(ImageSource(url=qcow2.as_uri()), ignore_progress)

    assert host.port.ensure_old_evicted().images == 0
    assert Path(cached.path).exists()


def test_a_cache_that_holds_nothing_lets_go_of_nothing(host: ImagesHost) -> None:
    assert host.port.ensure_old_evicted().images == 0
