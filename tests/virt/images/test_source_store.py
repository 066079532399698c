"""virt/images/source_store.py by the real fsspec and s3fs, against a local S3 (moto's server)."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from fsspec.config import conf
from moto.server import ThreadedMotoServer

from taskvisor.model.errors import DoesNotFit, Refused, Retryable
from taskvisor.model.records import ImageSource
from tests.virt.made_images import noise, qcow2
from virt.images import part_file
from virt.images.cache import LocalImageCache
from virt.images.source import ResumePoint, SourceIdentity, SourceLimits
from virt.images.sources import open_source, read_is_unchanged
from virt.progress import ignore_progress

LIMITS = SourceLimits()
CONTENT = noise(20_000_000)
URL = "s3://images/debian/12.raw"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """boto3's own client of an S3 with a bucket `images` that holds one object."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setitem(conf, "s3", {"endpoint_url": endpoint})
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="images")
    client.put_object(Bucket="images", Key="debian/12.raw", Body=CONTENT)
    return client


def read(url: str = URL, resume: ResumePoint | None = None) -> tuple[int, bytes, SourceIdentity]:
    with open_source(url, known=None, resume=resume, limits=LIMITS) as opened:
        assert opened is not None
        content = b"".join(opened.chunks)
        opened.confirm()
        return opened.offset, content, opened.identity


def test_an_object_is_read_whole(s3: Any) -> None:
    offset, content, identity = read()
    assert (offset, content == CONTENT, identity.size_bytes) == (0, True, len(CONTENT))


def test_an_object_is_read_on_from_an_offset(s3: Any) -> None:
    point = ResumePoint(identity=read()[2], offset=19_000_000)
    offset, content, _ = read(resume=point)
    assert (offset, content == CONTENT[19_000_000:]) == (19_000_000, True)


def test_an_object_that_was_put_anew_is_another_and_not_spliced(s3: Any) -> None:
    known = read()[2]
    assert read_is_unchanged(URL, known, LIMITS)
    s3.put_object(Bucket="images", Key="debian/12.raw", Body=CONTENT[::-1])
    assert not read_is_unchanged(URL, known, LIMITS)
    offset, content, _ = read(resume=ResumePoint(identity=known, offset=1000))
    assert (offset, content == CONTENT[::-1]) == (0, True)


def test_an_object_that_changes_under_the_reader_is_read_again(s3: Any) -> None:
    with open_source(URL, known=None, resume=None, limits=LIMITS) as opened:
        assert opened is not None
        next(opened.chunks)
        s3.put_object(Bucket="images", Key="debian/12.raw", Body=b"other")
        with pytest.raises(Retryable, match="was changed while it was read"):
            opened.confirm()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://images/none", "does not exist"),
        ("s3://no-such-bucket/x", "does not exist"),
        ("s3://images/debian", "is a directory of the store"),
        ("s3://images/x?versionId=1", "a bucket and a path, and nothing more"),
        ("s3://images/x::file:///etc/passwd", "a bucket and a path, and nothing more"),
        ("simplecache::s3://images/debian/12.raw", "cannot be fetched"),
        ("local:///etc/passwd", "cannot be fetched: use file:///"),
        ("reference://x", "cannot be fetched: use file:///"),
    ],
)
def test_what_is_no_object_is_refused(s3: Any, url: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        read(url)


def test_a_store_that_is_not_there_is_retryable(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conf, "s3", {"endpoint_url": "http://127.0.0.1:1"})
    with pytest.raises(Retryable, match="cannot be read"):
        read()


def test_a_host_without_the_stores_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DoesNotFit, match=r"no library that reads gs:// .*install taskvisor\[s3\]"):
        read("gs://images/x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DoesNotFit, match="no library that reads s3://"):
        read()


def test_no_library_of_a_store_is_loaded_before_a_url_asks_for_it() -> None:
    names = ("fsspec", "s3fs", "botocore", "openstack", "keystoneauth1")
    code = f"import sys, virt.images.cache; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.real
def test_an_object_is_cached_and_looked_up_again_without_a_transfer(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = qcow2(tmp_path / "image")
    s3.put_object(Bucket="images", Key="image", Body=image.read_bytes())
    cache = LocalImageCache(tmp_path / "cache")
    found = cache.ensure_cached(ImageSource(url="s3://images/image"), ignore_progress)
    assert Path(found.path).read_bytes() == image.read_bytes()
    monkeypatch.setattr(part_file, "PartFile", None)
    assert cache.ensure_cached(ImageSource(url="s3://images/image"), ignore_progress) == found
