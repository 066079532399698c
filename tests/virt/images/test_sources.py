"""virt/images/sources.py against files and a web server that can misbehave."""

import logging
import os
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from taskvisor.model.errors import Refused, Retryable
from tests.virt.images.image_server import ImageServer, running_image_server
from tests.virt.made_images import noise
from virt.images import link_local, source_file, source_http
from virt.images.source import ResumePoint, SourceIdentity, SourceLimits, shown_url
from virt.images.sources import open_source, read_is_unchanged

CONTENT = noise(3_000_000)
LIMITS = SourceLimits(connect_time_limit_s=2.0, read_time_limit_s=0.3)
LONG_AGO = 1_600_000_000.0


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with running_image_server() as running:
        yield running


def read(
    url: str, resume: ResumePoint | None = None, limits: SourceLimits = LIMITS
) -> tuple[int, bytes, SourceIdentity]:
    with open_source(url, known=None, resume=resume, limits=limits) as opened:
        assert opened is not None
        content = b"".join(opened.chunks)
        opened.confirm()
        return opened.offset, content, opened.identity


def identity_of(url: str) -> SourceIdentity:
    return read(url)[2]


# Files


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "an image.raw"
    path.write_bytes(CONTENT)
    return path


def test_a_file_is_read_whole(image: Path) -> None:
    offset, content, identity = read(image.as_uri())
    assert (offset, content, identity.size_bytes) == (0, CONTENT, len(CONTENT))


def test_a_file_is_read_on_from_an_offset(image: Path) -> None:
    point = ResumePoint(identity=identity_of(image.as_uri()), offset=1000)
    assert read(image.as_uri(), point)[:2] == (1000, CONTENT[1000:])


def test_a_file_that_was_touched_is_another_file(image: Path) -> None:
    url = image.as_uri()
    known = identity_of(url)
    assert read_is_unchanged(url, known, LIMITS)
    os.utime(image, ns=(0, 12345))
    assert not read_is_unchanged(url, known, LIMITS)
    assert read(url, ResumePoint(identity=known, offset=1000))[0] == 0


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_another_file(image: Path) -> None:
    known = identity_of(image.as_uri())
    facts = image.stat()
    other = image.with_name("other")
    other.write_bytes(noise(len(CONTENT), seed=8))
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.rename(image)
    assert not read_is_unchanged(image.as_uri(), known, LIMITS)


def test_a_file_that_changes_under_the_reader_is_read_again(image: Path) -> None:
    with open_source(image.as_uri(), known=None, resume=None, limits=LIMITS) as opened:
        assert opened is not None
        next(opened.chunks)
        image.write_bytes(noise(1000))
        with pytest.raises(Retryable, match="was changed while it was read"):
            opened.confirm()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///no/such/file.qcow2", "/no/such/file.qcow2 does not exist on this host"),
        ("file:///usr/bin/env/x", "does not exist on this host"),
        ("file:///usr", "is a directory, not a regular file"),
        ("file:///dev/zero", "lies where no image is read from"),
        ("file://otherhost/x", "names no file on this host"),
        ("file:x", "names no file on this host"),
        ("ftp://host/x", "use file:///…, http://… or https://…"),
        ("/etc/passwd", "use file:///…"),
        ("javascript:alert(1)", "use file:///…"),
        ("http://", "cannot be fetched"),
    ],
)
def test_what_cannot_be_a_source_is_refused(url: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        read(url)


def test_files_outside_of_the_allowed_directories_are_refused_also_by_a_link(tmp_path: Path, image: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(image)
    (allowed / "way out").symlink_to(tmp_path)
    limits = replace(LIMITS, file_roots=(allowed,))
    for path in (image, allowed / "link", allowed / ".." / image.name, allowed / "way out" / image.name):
        with pytest.raises(Refused, match="not among the directories"):
            read(f"file://{path}".replace(" ", "%20"), limits=limits)
    (allowed / "own").write_bytes(CONTENT)
    assert read((allowed / "own").as_uri(), limits=limits)[1] == CONTENT


def test_of_closed_directories_only_the_open_parts_are_read(tmp_path: Path, image: Path) -> None:
    (tmp_path / "images").mkdir()
    snapshot = tmp_path / "images" / "snapshot"
    snapshot.write_bytes(CONTENT)
    limits = replace(LIMITS, closed_directories=(tmp_path,), open_directories=(tmp_path / "images",))
    with pytest.raises(Refused, match="lies where no image is read from"):
        read(image.as_uri(), limits=limits)
    assert read(snapshot.as_uri(), limits=limits)[1] == CONTENT
    snapshot.unlink()
    with pytest.raises(
        Refused, match="snapshot is gone: the image that it was has been deleted; build from another one"
    ):
        read(snapshot.as_uri(), limits=limits)


def test_a_link_is_not_followed_even_to_where_images_may_be_read(tmp_path: Path, image: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    with pytest.raises(Refused, match=r"is a symbolic link; give the path of the image itself"):
        read(link.as_uri())
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(Refused, match="loop"):
        read(loop.as_uri())


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (stat.S_IFBLK, "is a block device, not a regular file"),
        (stat.S_IFCHR, "is a character device, not a regular file"),
        (stat.S_IFIFO, "is a pipe, not a regular file"),
        (stat.S_IFSOCK, "is a socket, not a regular file"),
    ],
)
def test_a_node_that_is_no_file_is_refused_unopened(tmp_path: Path, kind: int, words: str) -> None:
    node = tmp_path / "node"
    os.mknod(node, kind | 0o600, os.makedev(1, 7))
    with pytest.raises(Refused, match=words):
        read(node.as_uri())


def test_a_file_that_becomes_a_link_once_it_was_looked_at_is_not_followed(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = source_file._check_regular

    def swap(path: Path, mode: int) -> None:
        look(path, mode)
        image.unlink()
        image.symlink_to("/etc/passwd")

    monkeypatch.setattr(source_file, "_check_regular", swap)
    with pytest.raises(Refused, match="it leads through links"):
        read(image.as_uri())


def test_a_file_whose_directory_is_swapped_for_a_link_once_it_was_looked_at_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    for directory in (allowed / "a", outside):
        directory.mkdir(parents=True)
        (directory / "disk").write_bytes(CONTENT)
    look = source_file._check_regular

    def swap(path: Path, mode: int) -> None:
        look(path, mode)
        if not (allowed / "a").is_symlink():
            (allowed / "a").rename(tmp_path / "away")
            (allowed / "a").symlink_to(outside)

    monkeypatch.setattr(source_file, "_check_regular", swap)
    with pytest.raises(Refused, match="outside/disk is not among the directories"):
        read((allowed / "a" / "disk").as_uri(), limits=replace(LIMITS, file_roots=(allowed,)))


def test_a_source_larger_than_allowed_is_refused_before_it_is_read(image: Path) -> None:
    with pytest.raises(Refused, match=r"2.9 MiB; images may have 1.0 MiB at most"):
        read(image.as_uri(), limits=replace(LIMITS, image_bytes=1 << 20))


# HTTP


def test_a_url_is_read_whole(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='"1"')
    assert read(url) == (0, CONTENT, SourceIdentity(size_bytes=len(CONTENT), validator='"1"', if_range='"1"'))


def test_a_transfer_goes_on_where_it_was(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='"1"')
    point = ResumePoint(identity=identity_of(url), offset=1_000_000)
    assert read(url, point)[:2] == (1_000_000, CONTENT[1_000_000:])
    assert (server.requests[-1].if_range, server.requests[-1].status) == ('"1"', 206)


def test_a_changed_file_is_never_spliced_onto_the_old(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='"1"')
    point = ResumePoint(identity=identity_of(url), offset=1_000_000)
    server.serve("/x", CONTENT[::-1], etag='"2"')
    assert read(url, point)[:2] == (0, CONTENT[::-1])


def test_a_server_that_ignores_if_range_is_found_out(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("/x", CONTENT, etag='"1"')
    point = ResumePoint(identity=identity_of(url), offset=1_000_000)
    changed = server.serve("/y", CONTENT[::-1], etag='"2"')
    lying = replace(point, identity=replace(point.identity, if_range='"2"'))  # the server believes that we have its own
    assert read(changed, lying)[:2] == (0, CONTENT[::-1])


def test_last_modified_serves_where_there_is_no_etag(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, modified_at=LONG_AGO)
    known = identity_of(url)
    assert known.validator == known.if_range == formatdate(LONG_AGO, usegmt=True)
    assert read_is_unchanged(url, known, LIMITS)
    assert read(url, ResumePoint(identity=known, offset=1000))[0] == 1000


def test_a_file_modified_this_very_second_is_not_resumed(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, modified_at=time.time() + 1)
    assert identity_of(url).if_range is None
    assert read(url, ResumePoint(identity=identity_of(url), offset=1000))[0] == 0


def test_a_weak_etag_tells_sameness_but_splices_nothing(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='W/"1"')
    known = identity_of(url)
    assert read_is_unchanged(url, known, LIMITS)
    assert read(url, ResumePoint(identity=known, offset=1000))[0] == 0


def test_without_any_validator_nothing_is_known_to_be_unchanged(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT)
    assert not read_is_unchanged(url, identity_of(url), LIMITS)


def test_an_unchanged_url_costs_one_request_without_a_body(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='"1"')
    known = identity_of(url)
    server.requests.clear()
    assert read_is_unchanged(url, known, LIMITS)
    assert [(request.if_none_match, request.status) for request in server.requests] == [('"1"', 304)]


def test_a_server_without_ranges_sends_the_whole(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='"1"', ranges=False)
    assert read(url, ResumePoint(identity=identity_of(url), offset=1000))[:2] == (0, CONTENT)


def test_a_range_beyond_the_end_starts_anew(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='"1"')
    point = ResumePoint(identity=identity_of(url), offset=len(CONTENT))
    assert read(url, point)[:2] == (0, CONTENT)
    assert [request.status for request in server.requests] == [200, 416, 200]


def test_a_transfer_cut_short_is_retryable(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, etag='"1"', cut_after=1_000_000)
    with pytest.raises(Retryable, match="was cut short"):
        read(url)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_what_the_server_will_go_on_refusing_is_refused(server: ImageServer, status: int) -> None:
    url = server.serve("/x", b"", status=status)
    with pytest.raises(Refused, match=f"answers {status} .*check the URL"):
        read(url)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_retryable(server: ImageServer, status: int) -> None:
    url = server.serve("/x", b"", status=status)
    with pytest.raises(Retryable, match=f"answers {status}") as raised:
        read(url)
    assert raised.value.delay_s == 5.0


@pytest.mark.parametrize(
    ("retry_after", "least_s", "most_s"),
    [
        ("7", 7, 7),
        ("86400", 300, 300),
        ("0", 1, 1),
        ("soon", 5, 5),
    ],
)
def test_a_servers_wish_for_patience_is_granted_within_bounds(
    server: ImageServer, retry_after: str, least_s: float, most_s: float
) -> None:
    url = server.serve("/x", b"", status=429, headers={"Retry-After": retry_after})
    with pytest.raises(Retryable) as raised:
        read(url)
    assert least_s <= raised.value.delay_s <= most_s


def test_a_server_may_name_the_time_when_it_is_ready(server: ImageServer) -> None:
    in_two_minutes = formatdate(time.time() + 120, usegmt=True)
    url = server.serve("/x", b"", status=503, headers={"Retry-After": in_two_minutes})
    with pytest.raises(Retryable) as raised:
        read(url)
    assert 60 <= raised.value.delay_s <= 121


def test_a_silent_server_is_retryable(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT, gate=threading.Event())
    with pytest.raises(Retryable, match="did not answer in time"):
        read(url)


def test_a_server_that_is_not_there_is_retryable() -> None:
    with socket.socket() as unused:  # bound, not listening: the port is ours, and refuses
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Retryable, match="cannot be reached"):
            read(f"http://127.0.0.1:{unused.getsockname()[1]}/x")


def test_a_transfer_as_a_whole_is_bounded(server: ImageServer) -> None:
    url = server.serve("/x", CONTENT)
    with pytest.raises(Retryable, match="was not read within 0 s"):
        read(url, limits=replace(LIMITS, transfer_time_limit_s=0))


def test_a_url_larger_than_allowed_is_refused(server: ImageServer) -> None:
    small = replace(LIMITS, image_bytes=1_500_000)
    for announced in (True, False):
        url = server.serve("/x", CONTENT, announce_length=announced)
        with pytest.raises(Refused, match=r"images may have 1.4 MiB at most"):
            read(url, limits=small)


def test_redirects_are_followed_within_bounds(server: ImageServer) -> None:
    server.serve("/x", CONTENT)
    url = server.serve("/moved", b"", status=302, headers={"Location": "/x"})
    assert read(url)[1] == CONTENT
    loop = server.serve("/loop", b"", status=302, headers={"Location": "/loop"})
    with pytest.raises(Refused, match="redirects too often"):
        read(loop)


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_leads_to_no_other_scheme(server: ImageServer, target: str) -> None:
    url = server.serve("/x", b"", status=302, headers={"Location": target})
    with pytest.raises(Refused, match=f"leads to a {target.partition(':')[0]}:// URL, and only http and https"):
        read(url)


LINK_LOCAL = [
    "169.254.169.254",
    "169.254.0.1:8080",
    "2852039166",
    "0xa9fea9fe",
    "[fe80::1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[fd00:ec2::254]",
]


@pytest.mark.parametrize("place", LINK_LOCAL)
def test_neither_a_url_nor_a_redirect_leads_to_a_link_local_address(server: ImageServer, place: str) -> None:
    bad = f"http://{place}/latest/meta-data"
    for url in (bad, server.serve("/x", b"", status=302, headers={"Location": bad})):
        with pytest.raises(Refused, match=r"leads to the link-local address .* give a URL of an image server"):
            read(url)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1%lo"])
def test_a_name_that_has_a_link_local_address_is_refused(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ask = socket.getaddrinfo

    def answer(host: str, *rest: object, **how: object) -> object:
        return [(family, 1, 6, "", (address, 0))] if host == "metadata.test" else ask(host, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(Refused, match=r"link-local address .* \(as metadata.test\)"):
        read(server.serve("/x", b"", status=302, headers={"Location": "http://metadata.test/x"}))


def test_a_name_that_leads_elsewhere_once_it_was_checked_is_refused_by_its_peer(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/x", CONTENT)
    monkeypatch.setattr(link_local, "is_link_local", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(
        link_local, "_addresses_of", lambda host: ("192.0.2.1",) if host else ()
    )  # when it was looked at
    with pytest.raises(Refused, match=r"link-local address 127\.0\.0\.1"):
        read(url)


def test_addresses_that_are_not_link_local_pass(server: ImageServer) -> None:
    harmless = ("127.0.0.1", "10.0.0.1", "169.253.255.255", "::1", "fec0::1", "2001:db8::1", "no address")
    assert not any(map(link_local.is_link_local, harmless))


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[ImageServer]:
    """With a certificate that only `tmp_path / "cert.pem"` vouches for."""
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    request = ["openssl", "req", "-x509", *words, "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", *files]
    subprocess.run(request, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with running_image_server(context) as running:
        yield running


def test_a_certificate_that_nobody_vouches_for_is_refused(tls_server: ImageServer) -> None:
    with pytest.raises(Refused, match=r"certificate of .* is not valid"):
        read(tls_server.serve("/x", CONTENT))


def test_https_is_read_and_not_left_for_http(
    tls_server: ImageServer, server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    monkeypatch.setattr(source_http, "_tls_context", lambda: trusting)
    assert read(tls_server.serve("/x", CONTENT))[1] == CONTENT
    plain = server.serve("/x", CONTENT)
    moved = tls_server.serve("/moved", b"", status=302, headers={"Location": plain})
    with pytest.raises(Refused, match="which is not encrypted"):
        read(moved)


def test_proxies_of_the_environment_are_not_asked(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert read(server.serve("/x", CONTENT))[1] == CONTENT


def test_secrets_in_urls_are_not_shown() -> None:
    assert shown_url("https://me:secret@host:8443/a/b.qcow2?signature=s#f") == "https://host:8443/a/b.qcow2"


def test_secrets_in_urls_are_not_in_errors(server: ImageServer) -> None:
    url = server.url.replace("http://", "http://me:hush@") + "/none?signature=hush"
    with pytest.raises(Refused) as raised:
        read(url)
    assert "hush" not in str(raised.value)


def test_secrets_in_urls_are_not_logged(server: ImageServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert read(server.serve("/x", CONTENT) + "?signature=hush")[1] == CONTENT
    assert "hush" not in caplog.text
