"""A program of its own: answers the guests of one network at http://169.254.169.254/, each with what it alone was told.

Run by its path (net/services/metadata.py does), with Python's standard library and nothing else, so that it starts at
once and depends on nothing that an upgrade may move. It binds to one link as root, then locks itself into its directory
as an unprivileged user and goes into the background; whoever started it is told by its exit code that it listens.

Who asks is known by the sender's address: <directory>/<address>.json is an object of texts by their paths. That no guest
speaks as another is the filters' work. A path above documents is answered with their names, one a line, as EC2 and Nova
do. Guests are strangers: a request has few bytes and little time as a whole, however slowly they come, and few are
answered at once. Never logs what it serves.
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

REQUEST_LIMIT_BYTES = 8192
EXCHANGE_LIMIT_S = 10.0
CONNECTIONS_LIMIT = 128
CONNECTIONS_PER_GUEST_LIMIT = 8
DOCUMENTS_LIMIT_BYTES = 4 << 20
BACKLOG = 64
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


async def run_server(listening: socket.socket) -> None:
    """Answers until the process is ended."""
    server = await asyncio.start_server(Server().serve, sock=listening, limit=REQUEST_LIMIT_BYTES)
    await server.serve_forever()


def open_listening(device: str, address: str, port: int) -> socket.socket:
    """A socket that hears what comes in by that link only, and whose answers leave by it, whatever routes the host has."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    listening.bind((address, port))
    listening.listen(BACKLOG)
    return listening


def ensure_confined(directory: Path) -> None:
    """This process sees that directory only, as nobody; it can't take more files or memory than it needs."""
    os.chroot(directory)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_LIMIT, FILES_LIMIT))
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def run_in_background(arguments: argparse.Namespace) -> None:
    """The parent returns once the child listens, confined; the child never returns. OSError when it can't."""
    listening = open_listening(arguments.device, arguments.address, arguments.port)
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        if os.read(ready, 1) != b"1":
            raise OSError("the server ended before it listened")
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    arguments.pid_file.write_text(f"{os.getpid()}\n")
    ensure_confined(arguments.directory)
    os.write(told, b"1")
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    for fd in (ready, told, nothing):
        os.close(fd)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(run_server(listening))


def main(argv: Sequence[str]) -> int:
    """`--link` and `--code` are not used: they make another command line of another link, or of another version of this file."""
    parser = argparse.ArgumentParser(description="Answers the guests of one network with what each was told.")
    parser.add_argument("--device", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("--link")
    parser.add_argument("--code")
    try:
        run_in_background(parser.parse_args(argv))
    except OSError as error:
        print(f"metadata server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
