"""Answers the guests of one network at http://169.254.169.254/, each with what it alone was told.

A module of the metadata program (net/services/metadata_program.py), which loads it by its path, with Python's standard library
and nothing else, so that it depends on nothing that an upgrade may move. Before it answers, the process locks itself into its
directory as an unprivileged user.

Who asks is known by the sender's address: <directory>/<address>.json is an object of texts by their paths. That no guest
speaks as another is the filters' work. A path above documents is answered with their names, one a line, as EC2 and Nova
do. Guests are strangers: a request has few bytes and little time as a whole, however slowly they come, and few are
answered at once. Never logs what it serves.
"""

import asyncio
import json
import os
import resource
import signal
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

REQUEST_LIMIT_BYTES = 8192
EXCHANGE_LIMIT_S = 10.0
CONNECTIONS_LIMIT = 128
CONNECTIONS_PER_GUEST_LIMIT = 8
DOCUMENTS_LIMIT_BYTES = 4 << 20
FILES_LIMIT = 512
NOBODY = 65534
SLASHED = "latest/meta-data"
"""Below it a name of a directory ends in a slash. In other listings cloud-init takes names as they stand."""
OK, BAD_REQUEST, NOT_FOUND, NOT_ALLOWED = "200 OK", "400 Bad Request", "404 Not Found", "405 Method Not Allowed"
Answer = tuple[str, str]
"""The status, and the text."""


def answer_for(request: bytes, documents: Mapping[str, str]) -> Answer:
    """The answer to a request's head, which ends in an empty line (RFC 9112 §2)."""
    words = request.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].startswith(b"/"):
        return BAD_REQUEST, "this is no HTTP request\n"
    if words[0] not in (b"GET", b"HEAD"):
        return NOT_ALLOWED, "what is here can be read, and nothing else\n"
    path = "/".join(part for part in unquote(words[1].decode("latin-1").split("?", 1)[0]).split("/") if part)
    text = documents.get(path)
    if text is None:
        text = listing_for(path, documents)
    return (NOT_FOUND, "there is no such thing here\n") if text is None else (OK, text)


def listing_for(path: str, documents: Mapping[str, str]) -> str | None:
    """The names of what is right below the path, one a line; None when nothing is.

    A document `<path>/` is the listing of that path in its own words.
    """
    prefix = f"{path}/" if path else ""
    if prefix and prefix in documents:
        return documents[prefix]
    slash = "/" if path.startswith(SLASHED) else ""
    below = [name.removeprefix(prefix).partition("/") for name in documents if name.startswith(prefix)]
    names = sorted({f"{first}{slash}" if more else first for first, more, _ in below})
    return "\n".join(names) if names else None


def read_documents(address: str) -> Mapping[str, str]:
    """What the guest of that address was told; nothing when it was told nothing, or is no guest of ours."""
    try:
        with Path(f"{address}.json").open("rb") as file:
            content = file.read(DOCUMENTS_LIMIT_BYTES)
        documents: Mapping[str, str] = json.loads(content)
    except (FileNotFoundError, ValueError):
        return {}
    return documents


class Server:
    """Counts who is being answered, and answers."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one answer. Whoever has too many, is too slow or goes away is dropped without a word."""
        address = str(writer.get_extra_info("peername")[0])
        self._open[address] += 1
        try:
            if self._open.total() <= CONNECTIONS_LIMIT and self._open[address] <= CONNECTIONS_PER_GUEST_LIMIT:
                async with asyncio.timeout(EXCHANGE_LIMIT_S):
                    await _exchange(reader, writer, address)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open[address] -= 1
            self._open += Counter()  # drops the zeros: as many entries as guests that are connected
            writer.transport.abort()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
    try:
        request = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        request = b""
    status, text = answer_for(request, read_documents(address))
    content = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    writer.write(head.encode() + (b"" if request.startswith(b"HEAD ") else content))
    await writer.drain()
    writer.write_eof()
    await reader.read(REQUEST_LIMIT_BYTES)  # its end, or more: until then a reset could overtake the answer


def run_server(listening_fd: int) -> None:
    """Answers who connects to that socket, until the process is ended."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(_serve(socket.socket(fileno=listening_fd)))


def ensure_confined(directory: str) -> None:
    """This process sees that directory only, as nobody; it can't take more files or memory than it needs."""
    os.chroot(directory)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_LIMIT, FILES_LIMIT))
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


async def _serve(listening: socket.socket) -> None:
    server = await asyncio.start_server(Server().serve, sock=listening, limit=REQUEST_LIMIT_BYTES)
    await server.serve_forever()
