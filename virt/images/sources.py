"""Where images come from: a URL, opened for reading from any offset, told apart from others without being read.

Knows nothing of the cache. Each kind of source has a module of its own; fsspec and openstacksdk are loaded when a URL
first asks for them, and only then.
"""

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from urllib.parse import urlsplit

from taskvisor.model.errors import Refused, Retryable
from virt.images.source import Opened, ResumePoint, SourceIdentity, SourceLimits, shown_url
from virt.images.source_file import open_file
from virt.images.source_glance import open_glance
from virt.images.source_http import open_http
from virt.images.source_store import open_store
from virt.space import gib


def read_is_unchanged(url: str, known: SourceIdentity, limits: SourceLimits) -> bool:
    """True when the content of the URL is still `known`. Costs a stat, or one conditional request; errors as `open_source`."""
    with open_source(url, known=known, resume=None, limits=limits) as opened:
        return opened is None


@contextlib.contextmanager
def open_source(
    url: str, *, known: SourceIdentity | None, resume: ResumePoint | None, limits: SourceLimits
) -> Iterator[Opened | None]:
    """The source, opened; None when its content is still `known`.

    Refused for what is wrong and stays so: scheme, no such file, 4xx, too large, an invalid certificate, a place that
    images are not read from. Retryable for what may pass: no connection, time-outs, a transfer cut short (raised by
    `chunks`), 429 and 5xx (with Retry-After). DoesNotFit when this host lacks the library that reads such a source.
    """
    with _opening(url, known, resume, limits) as opened:
        if opened is not None:
            _check_size(url, opened.identity.size_bytes, limits)
            yield replace(opened, chunks=_bounded(url, opened, limits))
        else:
            yield None


def _opening(
    url: str, known: SourceIdentity | None, resume: ResumePoint | None, limits: SourceLimits
) -> AbstractContextManager[Opened | None]:
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return open_file(url, known, resume, limits)
    if scheme in ("http", "https"):
        return open_http(url, known, resume, limits)
    if scheme == "glance":
        return open_glance(url, known, resume)
    if scheme in limits.store_schemes:
        return open_store(url, known, resume)
    stores = ", ".join(f"{store}://…" for store in sorted(limits.store_schemes))
    raise Refused(
        f"{shown_url(url)} cannot be fetched: use file:///…, http://… or https://…; or glance://…, {stores}".rstrip(
            ", ;"
        )
    )


def _check_size(url: str, size_bytes: int | None, limits: SourceLimits) -> None:
    if size_bytes is not None and size_bytes > limits.image_bytes:
        raise Refused(
            f"{shown_url(url)} has {gib(size_bytes)}; images may have {gib(limits.image_bytes)} at most here;"
            " make it smaller, or have TASKVISOR_MAX_IMAGE_GIB raised"
        )


def _bounded(url: str, opened: Opened, limits: SourceLimits) -> Iterator[bytes]:
    """The chunks, until they exceed the size or the time allowed."""
    done_bytes = opened.offset
    deadline = time.monotonic() + limits.transfer_time_limit_s
    for chunk in opened.chunks:
        done_bytes += len(chunk)
        _check_size(url, done_bytes, limits)
        if time.monotonic() > deadline:
            raise Retryable(
                f"{shown_url(url)} was not read within {limits.transfer_time_limit_s:g} s; what came is kept"
            )
        yield chunk
