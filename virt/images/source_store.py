"""Object stores (s3://…, gs://…, abfs://…) by fsspec. Knows nothing of caches.

fsspec and the library of each store are an extra (`pip install taskvisor[s3]`). End points and credentials are theirs to
find, where their own pages say: FSSPEC_S3_ENDPOINT_URL, ~/.config/fsspec, ~/.aws, the instance's role. A URL bears none,
and only its scheme chooses what is called: fsspec's chained URLs (`simplecache::s3://…`) and file systems that read *this*
host never come here.

Source: https://filesystem-spec.readthedocs.io/en/latest/api.html
"""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, cast
from urllib.parse import urlsplit

from taskvisor.model.errors import DoesNotFit, Refused, Retryable, TaskvisorError
from virt.images.source import (
    CHUNK_BYTES,
    RETRY_DELAY_S,
    Opened,
    ResumePoint,
    SourceIdentity,
    resume_offset_for,
    shown_url,
)

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

READ_AHEAD_BYTES: Final = 8 << 20
"""One request brings so much: fewer trips than chunks, and the most that is held of an object."""

for _noisy in ("s3fs", "fsspec", "aiobotocore", "botocore"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)  # below, they log requests with all that is in them


@contextlib.contextmanager
def open_store(url: str, known: SourceIdentity | None, resume: ResumePoint | None) -> Iterator[Opened | None]:
    """The object, opened; None when it is still `known`.

    Refused for an object that is not there or may not be read; DoesNotFit when this host has no library for the store;
    Retryable for whatever else the store says: each has errors of its own.
    """
    with _store_errors(url):
        store, path = _store_for(url)
        identity = _read_identity(store, path, url)
    if known is not None and identity.is_same(known):
        yield None
        return

    def confirm() -> None:
        with _store_errors(url):
            now = _read_identity(store, path, url)
        if not now.is_same(identity):
            raise Retryable(f"{shown_url(url)} was changed while it was read; it is read again", delay_s=RETRY_DELAY_S)

    offset = resume_offset_for(identity, resume)
    with _store_errors(url):
        file = cast(BinaryIO, store.open(path, "rb", block_size=READ_AHEAD_BYTES, cache_type="readahead"))
    with contextlib.closing(file):
        yield Opened(identity=identity, offset=offset, chunks=_chunks(file, offset, url), confirm=confirm)


def _store_for(url: str) -> "tuple[AbstractFileSystem, str]":
    """The store, with nothing remembered of earlier looks, and the object's path in it."""
    parts = urlsplit(url)
    if "::" in url or parts.query or parts.fragment:
        raise Refused(f"{shown_url(url)} must be {parts.scheme}://, a bucket and a path, and nothing more")
    try:
        open_url = importlib.import_module("fsspec.core").url_to_fs
        store, path = open_url(url, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        raise DoesNotFit(
            f"this host has no library that reads {parts.scheme}:// ({error}); install taskvisor[s3], or build elsewhere"
        ) from error
    return store, path


def _read_identity(store: "AbstractFileSystem", path: str, url: str) -> SourceIdentity:
    facts = store.info(path)
    if facts["type"] != "file":
        raise Refused(
            f"{shown_url(url)} is a {facts['type']} of the store, not an object, so it is no disk image; give an object's"
            " URL"
        )
    size_bytes = facts["size"]
    return SourceIdentity(size_bytes=size_bytes if isinstance(size_bytes, int) else None, validator=store.ukey(path))


def _chunks(file: BinaryIO, offset: int, url: str) -> Iterator[bytes]:
    file.seek(offset)
    while True:
        with _store_errors(url):
            chunk = file.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _store_errors(url: str) -> Iterator[None]:
    shown = shown_url(url)
    try:
        yield
    except TaskvisorError:
        raise
    except FileNotFoundError as error:
        raise Refused(f"{shown} does not exist; check the URL") from error
    except PermissionError as error:
        raise Refused(f"{shown} may not be read by this host; see the store's rights, and this host's keys") from error
    except Exception as error:  # each store raises the errors of its own library
        raise Retryable(f"{shown} cannot be read: {type(error).__name__}: {error}", delay_s=RETRY_DELAY_S) from error
