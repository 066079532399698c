"""http(s)://: an image on a web server, read from any offset. Knows nothing of caches.

Sources: RFC 9110 §13 (conditional requests: If-None-Match, If-Range), §14 (ranges), §8.8 (validators), §10.2.3
(Retry-After).

One request does all: a GET that says what is known (If-None-Match) and what is already here (Range, If-Range). HEAD is
not used: servers that sign a URL for GET (S3) answer HEAD with 403.

Where a URL leads is the server's choice, made anew by each redirect. Neither it nor a redirect may lead to a link-local
address: there a cloud's metadata service hands out this host's own credentials (see `link_local`).
"""

import contextlib
import functools
import logging
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import httpx

from taskvisor.model.errors import Refused, Retryable
from virt.images.link_local import check_address, check_host
from virt.images.source import RETRY_DELAY_S, Opened, ResumePoint, SourceIdentity, SourceLimits, shown_url

RETRY_AFTER_LIMIT_S: Final = 300.0
"""A server may ask for more patience than a build has."""

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs every URL with all that is in it

_WORTH_RETRYING = frozenset({408, 425, 429})
_USER_AGENT = "taskvisor"


class _NotResumable(Exception):
    """The server will not go on from where we are; ask for the whole."""


@contextlib.contextmanager
def open_http(
    url: str, known: SourceIdentity | None, resume: ResumePoint | None, limits: SourceLimits
) -> Iterator[Opened | None]:
    """The URL, opened; None when its content is still `known`. Errors as `image_source.open_source`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_http_errors(url))
        client = stack.enter_context(_http_client(url, limits))
        try:
            response = stack.enter_context(client.stream("GET", url, headers=_headers_for(known, resume)))
            opened = _opened_for(url, response, known, resume)
        except _NotResumable:
            response = stack.enter_context(client.stream("GET", url, headers=_headers_for(known, None)))
            opened = _opened_for(url, response, known, None)
        yield opened


def _http_client(url: str, limits: SourceLimits) -> httpx.Client:
    return httpx.Client(
        timeout=httpx.Timeout(limits.read_time_limit_s, connect=limits.connect_time_limit_s),
        follow_redirects=True,
        max_redirects=limits.redirects,
        verify=_tls_context(),
        proxy=limits.proxy_url,
        trust_env=False,  # neither proxies nor ~/.netrc from the environment somebody started the worker in
        event_hooks={
            "request": [functools.partial(_check_target, url)],
            "response": [functools.partial(_check_peer, url)],
        },
    )


def _check_target(url: str, request: httpx.Request) -> None:
    """Called before each request is sent, a redirect's too."""
    if not request.url.host:
        raise Refused(f"{shown_url(url)} cannot be fetched: it names no server; write it as http://SERVER/PATH")
    if request.url.scheme not in ("http", "https"):
        raise Refused(
            f"{shown_url(url)} leads to a {request.url.scheme}:// URL, and only http and https are followed; give the"
            " URL of the image itself"
        )
    check_host(request.url.host, shown_url(url))


def _check_peer(url: str, response: httpx.Response) -> None:
    """Called before anything of an answer is used: a name may resolve to another address than when it was looked at."""
    peer = response.extensions["network_stream"].get_extra_info("server_addr")
    if isinstance(peer, tuple):
        check_address(str(peer[0]), shown_url(url))


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
        raise Refused(f"{shown} cannot be fetched: {error}; check the URL") from error
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
