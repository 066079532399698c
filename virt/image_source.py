"""Where images come from: file:// and http(s)://, opened for reading from any offset, told apart without being read.

Knows nothing of the cache. Sources: RFC 9110 §13 (conditional requests: If-None-Match, If-Range), §14 (ranges),
§8.8 (validators), §10.2.3 (Retry-After).

One request does all: a GET that says what is known (If-None-Match) and what is already here (Range, If-Range). HEAD is
not used: servers that sign a URL for GET (S3) answer HEAD with 403.
"""

import contextlib
import functools
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from taskvisor.model.errors import Refused, Retryable
from virt.space import gib

CHUNK_BYTES: Final = 1 << 20
RETRY_DELAY_S: Final = 5.0
RETRY_AFTER_LIMIT_S: Final = 300.0
"""A server may ask for more patience than a build has."""

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs every URL with all that is in it

_WORTH_RETRYING = frozenset({408, 425, 429})
_USER_AGENT = "taskvisor"


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    """Bounds of reading a source. `file_roots`: file:// may read below these only."""

    image_bytes: int = 1 << 40
    connect_time_limit_s: float = 10.0
    read_time_limit_s: float = 30.0  # of one read: silence, not slowness
    transfer_time_limit_s: float = 2 * 3600.0
    redirects: int = 5
    file_roots: tuple[Path, ...] = (Path("/"),)
    proxy_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceIdentity:
    """What tells one content of a URL from its next, without reading it.

    `validator` is made of device, inode and mtime for a file, of ETag or Last-Modified for HTTP; None when the server
    gives neither, and then nothing is ever known to be unchanged. `if_range` is the validator again if it is strong,
    that is, good enough to splice bytes by.
    """

    size_bytes: int | None
    validator: str | None
    if_range: str | None = None

    def is_same(self, other: "SourceIdentity") -> bool:
        """True when both certainly name the same content."""
        sizes_agree = None in (self.size_bytes, other.size_bytes) or self.size_bytes == other.size_bytes
        return self.validator is not None and self.validator == other.validator and sizes_agree


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """How much of which content is already here."""

    identity: SourceIdentity
    offset: int


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A source being read. `chunks` begins at `offset` of the content: the one asked for, or 0 when it cannot be resumed.

    `confirm` raises Retryable when the source changed while it was read. `file` is set for a local file, for a reflink.
    """

    identity: SourceIdentity
    offset: int
    chunks: Iterator[bytes]
    confirm: Callable[[], None]
    file: BinaryIO | None = None


class _NotResumable(Exception):
    """The server will not go on from where we are; ask for the whole."""


def shown_url(url: str) -> str:
    """The URL as it may be logged: without user, password and query, which may be secrets (signed URLs)."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def read_is_unchanged(url: str, known: SourceIdentity, limits: SourceLimits) -> bool:
    """True when the content of the URL is still `known`. Costs a stat, or one conditional request; errors as `open_source`."""
    with open_source(url, known=known, resume=None, limits=limits) as opened:
        return opened is None


@contextlib.contextmanager
def open_source(
    url: str, *, known: SourceIdentity | None, resume: ResumePoint | None, limits: SourceLimits
) -> Iterator[Opened | None]:
    """The source, opened; None when its content is still `known`.

    Refused for what is wrong and stays so: scheme, no such file, 4xx, too large, an invalid certificate. Retryable for
    what may pass: no connection, time-outs, a transfer cut short (raised by `chunks`), 429 and 5xx (with Retry-After).
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        opening = _open_file(url, known, resume, limits)
    elif scheme in ("http", "https"):
        opening = _open_http(url, known, resume, limits)
    else:
        raise Refused(f"{shown_url(url)} cannot be fetched: use file:///…, http://… or https://…")
    with opening as opened:
        if opened is not None:
            _check_size(url, opened.identity.size_bytes, limits)
            yield replace(opened, chunks=_bounded(url, opened, limits))
        else:
            yield None


def _check_size(url: str, size_bytes: int | None, limits: SourceLimits) -> None:
    if size_bytes is not None and size_bytes > limits.image_bytes:
        raise Refused(f"{shown_url(url)} has {gib(size_bytes)}; images may have {gib(limits.image_bytes)} at most here")


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


# Files


@contextlib.contextmanager
def _open_file(
    url: str, known: SourceIdentity | None, resume: ResumePoint | None, limits: SourceLimits
) -> Iterator[Opened | None]:
    path = _local_path(url, limits)
    identity = _file_identity(path)
    if known is not None and identity.is_same(known):
        yield None
        return
    offset = resume.offset if resume is not None and resume.identity.is_same(identity) else 0

    def confirm() -> None:
        if not _file_identity(path).is_same(identity):
            raise Retryable(f"{path} was changed while it was read; it is read again", delay_s=RETRY_DELAY_S)

    with _file_errors(path):
        file = path.open("rb")
    with file:  # outside of _file_errors: what the reader of the chunks raises is not of this file
        file.seek(offset)
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        yield Opened(identity=identity, offset=offset, chunks=chunks, confirm=confirm, file=file)


def _local_path(url: str, limits: SourceLimits) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise Refused(f"{shown_url(url)} names no file on this host; write file:///absolute/path")
    with _file_errors(Path(unquote(parts.path))):
        path = Path(unquote(parts.path)).resolve(strict=True)
    if not any(path.is_relative_to(root) for root in limits.file_roots):
        roots = ", ".join(str(root) for root in limits.file_roots)
        raise Refused(f"{path} is not among the directories that images are read from here ({roots})")
    return path


def _file_identity(path: Path) -> SourceIdentity:
    with _file_errors(path):
        facts = path.stat()
    if not path.is_file():
        raise Refused(f"{path} is not a regular file, so it is no disk image")
    return SourceIdentity(size_bytes=facts.st_size, validator=f"{facts.st_dev}:{facts.st_ino}:{facts.st_mtime_ns}")


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(f"{path} does not exist on this host; put the image there, or give an http(s) URL") from error
    except PermissionError as error:
        raise Refused(f"{path} may not be read by the worker; change its permissions") from error
    except RuntimeError as error:
        raise Refused(f"{path} cannot be followed: its links form a loop") from error


# HTTP


@contextlib.contextmanager
def _open_http(
    url: str, known: SourceIdentity | None, resume: ResumePoint | None, limits: SourceLimits
) -> Iterator[Opened | None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(_http_errors(url))
        client = stack.enter_context(_http_client(limits))
        try:
            response = stack.enter_context(client.stream("GET", url, headers=_headers_for(known, resume)))
            opened = _opened_for(url, response, known, resume)
        except _NotResumable:
            response = stack.enter_context(client.stream("GET", url, headers=_headers_for(known, None)))
            opened = _opened_for(url, response, known, None)
        yield opened


def _http_client(limits: SourceLimits) -> httpx.Client:
    return httpx.Client(
        timeout=httpx.Timeout(limits.read_time_limit_s, connect=limits.connect_time_limit_s),
        follow_redirects=True,
        max_redirects=limits.redirects,
        verify=_tls_context(),
        proxy=limits.proxy_url,
        trust_env=False,  # neither proxies nor ~/.netrc from the environment somebody started the worker in
    )


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """The host's own certificate authorities (httpx brings a list that operators cannot add to). 20 ms, so made once."""
    return ssl.create_default_context()


def _headers_for(known: SourceIdentity | None, resume: ResumePoint | None) -> dict[str, str]:
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if known is not None and known.validator is not None:
        headers["If-None-Match" if _is_etag(known.validator) else "If-Modified-Since"] = known.validator
    if resume is not None and resume.offset > 0 and resume.identity.if_range is not None:
        headers["Range"] = f"bytes={resume.offset}-"
        headers["If-Range"] = resume.identity.if_range
    return headers


def _opened_for(
    url: str, response: httpx.Response, known: SourceIdentity | None, resume: ResumePoint | None
) -> Opened | None:
    if response.status_code == HTTPStatus.NOT_MODIFIED and known is not None:
        return None
    _check_not_downgraded(url, response)
    chunks = response.iter_raw()  # as they come: given a size, httpx gathers, and a cut loses what it had gathered
    if response.status_code == HTTPStatus.PARTIAL_CONTENT and resume is not None:
        _check_continues(response, resume)
        return Opened(identity=resume.identity, offset=resume.offset, chunks=chunks, confirm=_http_confirm)
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and resume is not None:
        raise _NotResumable
    if response.status_code != HTTPStatus.OK:
        raise _status_error(url, response)
    identity = _http_identity(response)
    if known is not None and identity.is_same(known):
        return None
    return Opened(identity=identity, offset=0, chunks=chunks, confirm=_http_confirm)


def _http_confirm() -> None:
    """One answer is of one content; there is nothing to confirm."""


def _http_identity(response: httpx.Response) -> SourceIdentity:
    length = response.headers.get("content-length", "")
    return SourceIdentity(
        size_bytes=int(length) if length.isdecimal() else None,
        validator=_validator(response),
        if_range=_strong_validator(response),
    )


def _check_continues(response: httpx.Response, resume: ResumePoint) -> None:
    """A 206 goes on where we are, of the content we have; _NotResumable otherwise. "Content-Range: bytes 100-199/200".

    A 206 to an If-Range may leave out Last-Modified (RFC 9110 §15.3.7), so a validator that is missing is no reason.
    """
    span, _, total = response.headers.get("content-range", "").removeprefix("bytes ").partition("/")
    starts_there = span.partition("-")[0] == str(resume.offset)
    same_size = resume.identity.size_bytes is None or total in ("*", str(resume.identity.size_bytes))
    if not (starts_there and same_size and _validator(response) in (None, resume.identity.validator)):
        raise _NotResumable


def _validator(response: httpx.Response) -> str | None:
    validator: str | None = response.headers.get("etag") or response.headers.get("last-modified")
    return validator


def _is_etag(validator: str) -> bool:
    return validator.startswith(('"', 'W/"'))


def _strong_validator(response: httpx.Response) -> str | None:
    """The ETag if it is not weak; else Last-Modified if it is at least a second older than the answer (RFC 9110 §8.8.2.2)."""
    etag = response.headers.get("etag")
    if etag is not None:
        return None if etag.startswith("W/") else str(etag)
    modified, date = response.headers.get("last-modified"), response.headers.get("date")
    if modified is None or date is None:
        return None
    try:
        age_s = (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds()
    except (ValueError, TypeError):
        return None
    return str(modified) if age_s >= 1 else None


def _check_not_downgraded(url: str, response: httpx.Response) -> None:
    if urlsplit(url).scheme == "https" and response.url.scheme != "https":
        target = shown_url(str(response.url))
        raise Refused(
            f"{shown_url(url)} leads to {target}, which is not encrypted; give an https URL of the image itself"
        )


def _status_error(url: str, response: httpx.Response) -> Refused | Retryable:
    status = response.status_code
    message = f"{shown_url(url)} answers {status} {response.reason_phrase}".rstrip()
    if status >= 500 or status in _WORTH_RETRYING:
        return Retryable(f"{message}; it is asked again", delay_s=_delay_for(response.headers.get("retry-after")))
    return Refused(f"{message}; check the URL, and whether this host may read it")


def _delay_for(retry_after: str | None) -> float:
    """Retry-After is a number of seconds or a date."""
    if retry_after is None:
        return RETRY_DELAY_S
    try:
        if retry_after.strip().isdecimal():
            delay_s = float(retry_after)
        else:
            delay_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, TypeError):
        return RETRY_DELAY_S
    return min(max(delay_s, 1.0), RETRY_AFTER_LIMIT_S)


@contextlib.contextmanager
def _http_errors(url: str) -> Iterator[None]:
    shown = shown_url(url)
    try:
        yield
    except httpx.TimeoutException as error:
        raise Retryable(f"{shown} did not answer in time ({type(error).__name__})", delay_s=RETRY_DELAY_S) from error
    except httpx.TooManyRedirects as error:
        raise Refused(f"{shown} redirects too often; give the URL of the image itself") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise Refused(f"{shown} cannot be fetched: {error}") from error
    except httpx.RemoteProtocolError as error:
        raise Retryable(f"the transfer of {shown} was cut short: {error}", delay_s=RETRY_DELAY_S) from error
    except httpx.TransportError as error:
        if _is_certificate_error(error):
            raise Refused(
                f"the certificate of {shown} is not valid: {error}; mend it, or add its CA to this host"
            ) from error
        raise Retryable(f"{shown} cannot be reached: {error}", delay_s=RETRY_DELAY_S) from error


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
