"""virt/images/source_glance.py by the real openstacksdk, against a small Glance on loopback."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import DoesNotFit, Refused, Retryable
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.virt.images.glance_server import Glance, GlanceImage, running_glance
from tests.virt.made_images import noise, partitioned, qcow2
from virt.images.cache import LocalImageCache
from virt.images.source import ResumePoint, SourceIdentity, SourceLimits
from virt.images.sources import open_source, read_is_unchanged
from virt.progress import ignore_progress

LIMITS = SourceLimits()
CONTENT = noise(3_000_000)
ID = "5f5a3e2c-6d0e-4a51-9d43-0f1f6f1f0001"
URL = f"glance://lab/{ID}"


@pytest.fixture
def glance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Glance]:
    with running_glance() as running:
        running.write_clouds(tmp_path / "clouds.yaml")
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
        running.images[ID] = GlanceImage(content=CONTENT)
        yield running


def read(url: str = URL, resume: ResumePoint | None = None) -> tuple[int, bytes, SourceIdentity]:
    with open_source(url, known=None, resume=resume, limits=LIMITS) as opened:
        assert opened is not None
        content = b"".join(opened.chunks)
        opened.confirm()
        return opened.offset, content, opened.identity


@pytest.mark.parametrize("cloud", ["lab", None])
def test_an_image_is_read_whole_from_a_named_cloud_or_the_default_one(
    glance: Glance, monkeypatch: pytest.MonkeyPatch, cloud: str | None
) -> None:
    monkeypatch.setenv("OS_CLOUD", "lab")
    offset, content, identity = read(f"glance://{cloud}/{ID}" if cloud else f"glance://{ID}")
    assert (offset, content) == (0, CONTENT)
    assert identity == SourceIdentity(size_bytes=len(CONTENT), validator=str(glance.record(ID)["os_hash_value"]))


def test_a_transfer_goes_on_where_it_was(glance: Glance) -> None:
    point = ResumePoint(identity=read()[2], offset=1_000_000)
    assert read(resume=point)[:2] == (1_000_000, CONTENT[1_000_000:])
    assert glance.downloads == [0, 1_000_000]


def test_a_glance_without_ranges_sends_the_whole(glance: Glance) -> None:
    point = ResumePoint(identity=read()[2], offset=1_000_000)
    glance.images[ID] = replace(glance.images[ID], ranges=False)
    assert read(resume=point)[:2] == (0, CONTENT)


def test_an_image_made_anew_is_not_spliced_onto_the_old(glance: Glance) -> None:
    point = ResumePoint(identity=read()[2], offset=1_000_000)
    glance.images[ID] = GlanceImage(content=CONTENT[::-1])
    assert read(resume=point)[:2] == (0, CONTENT[::-1])


def test_an_unchanged_image_is_not_downloaded(glance: Glance) -> None:
    known = read()[2]
    glance.downloads.clear()
    assert read_is_unchanged(URL, known, LIMITS)
    assert glance.downloads == []


def test_an_image_that_nobody_has_is_refused(glance: Glance) -> None:
    with pytest.raises(Refused, match="is not there, or not for us to read"):
        read(f"glance://lab/{ID[:-1]}2")


@pytest.mark.parametrize(
    "url", ["glance://", "glance://debian", "glance://lab/debian", f"glance://a/b/{ID}", f"glance://u:p@lab/{ID}"]
)
def test_what_names_no_image_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="names no image: write glance://<image id>"):
        read(url)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"status": "deactivated"}, "is deactivated, so it cannot be read"),
        ({"container_format": "ova"}, "is a ova container, and only bare"),
        ({"disk_format": "ami"}, "was uploaded as ami; use one of"),
    ],
)
def test_what_is_no_single_disk_for_us_is_refused(glance: Glance, how: dict[str, str], words: str) -> None:
    glance.images[ID] = GlanceImage(content=CONTENT, **how)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=words):
        read()


def test_an_image_that_is_still_uploaded_is_waited_for(glance: Glance) -> None:
    glance.images[ID] = GlanceImage(content=b"", status="saving")
    with pytest.raises(Retryable, match="is saving"):
        read()


def test_a_transfer_cut_short_is_retryable(glance: Glance) -> None:
    glance.images[ID] = GlanceImage(content=CONTENT, cut_after=1_000_000)
    with pytest.raises(Retryable, match="cannot be read now"):
        read()


def test_a_glance_that_is_out_of_order_is_retryable(glance: Glance) -> None:
    glance.answer_with = 500
    with pytest.raises(Retryable, match="cannot be read now"):
        read()


def test_a_glance_that_does_not_know_us_is_this_hosts_trouble(glance: Glance) -> None:
    glance.answer_with = 401
    with pytest.raises(DoesNotFit, match="does not take this host's credentials"):
        read()


def test_a_cloud_that_this_host_does_not_know_is_this_hosts_trouble(glance: Glance) -> None:
    with pytest.raises(DoesNotFit, match="knows no such cloud"):
        read(f"glance://elsewhere/{ID}")


def test_a_host_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openstack", None)
    with pytest.raises(DoesNotFit, match=r"install taskvisor\[glance\]"):
        read()


@pytest.mark.real
def test_a_raw_disk_is_taken_because_glance_declares_it_warm_and_cold(glance: Glance, tmp_path: Path) -> None:
    bare = noise(1 << 20)
    glance.images[ID] = GlanceImage(content=bare, disk_format="raw")
    cache = LocalImageCache(tmp_path / "cache")
    for _ in range(2):
        found = cache.ensure_cached(ImageSource(url=URL), ignore_progress)
        assert (found.format, Path(found.path).read_bytes()) == (ImageFormat.RAW, bare)
    assert glance.downloads == [0]


@pytest.mark.real
def test_an_image_that_is_something_else_than_glance_declares_is_refused(glance: Glance, tmp_path: Path) -> None:
    cache = LocalImageCache(tmp_path / "cache")
    disguised = qcow2(tmp_path / "image").read_bytes()
    for content, declared, found in ((disguised, "raw", "qcow2"), (partitioned(), "qcow2", "raw")):
        glance.images[ID] = GlanceImage(content=content, disk_format=declared)
        with pytest.raises(Refused, match=f"was declared {declared} but is {found}"):
            cache.ensure_cached(ImageSource(url=URL), ignore_progress)
