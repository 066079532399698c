"""A program of its own: becomes the metadata server of one network. Listens, goes into the background, then loads the rest.

Run by its path (net/services/metadata.py does). An interpreter needs a second on a busy host to load what answers HTTP, and a
plug would wait for that. So this imports nothing but what every interpreter has at hand. Whoever started it is told by its exit
code that it listens; guests that ask meanwhile wait in the socket's queue. net/services/metadata_server.py is loaded by its
path, confines itself, and answers: nothing that a guest sent is read before. When that does not come about, the reason is in
the file `<pid file>.failed`, for whoever finds no server; it is never a guest's text. Must never know what is served.
"""

import _socket
import os
import sys

BACKLOG = 64
SERVER = "metadata_server.py"
FAILED_SUFFIX = ".failed"
READY = b"1"
PORT = "80"
REQUIRED = ("address", "directory", "pid-file")
IP_FREEBIND = 15  # linux/in.h; the socket module has no name for it


def options_of(argv: list[str]) -> dict[str, str]:
    """`--name=value` words by name. ValueError when one lacks.

    `link` and `code` are not used: they make another command line of another link, or of another version of this program.
    """
    options = {"port": PORT, **{name: value for name, _, value in (word[2:].partition("=") for word in argv)}}
    lacking = [name for name in REQUIRED if name not in options]
    if lacking:
        raise ValueError(f"--{lacking[0]}=… is missing")
    return options


def open_listening(device: str | None, address: str, port: int) -> _socket.socket:
    """A socket that hears what comes in by that link only, and whose answers leave by it, whatever routes the host has.

    Without a link it hears what comes to the address by any, also when none holds it yet.
    """
    listening = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    if device is None:
        listening.setsockopt(_socket.SOL_IP, IP_FREEBIND, 1)
    else:
        listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_BINDTODEVICE, device.encode())
    listening.bind((address, port))
    listening.listen(BACKLOG)
    return listening


def run_in_background(options: dict[str, str]) -> None:
    """The parent returns once the child listens and its pid is written; the child never returns. OSError when it can't."""
    listening = open_listening(options.get("device"), options["address"], int(options["port"]))
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        if os.read(ready, 1) != READY:
            raise OSError("the server ended before it was in the background")
        return
    os.setsid()
    _write(options["pid-file"], f"{os.getpid()}\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.write(told, READY)
    for fd in (ready, told, nothing):
        os.close(fd)
    _become_server(listening.detach(), options)


def _become_server(listening_fd: int, options: dict[str, str]) -> None:
    failed = options["pid-file"] + FAILED_SUFFIX
    try:
        server = _loaded(os.path.join(os.path.dirname(os.path.abspath(__file__)), SERVER))
        server.ensure_confined(options["directory"])
    except (ImportError, SyntaxError, OSError, AttributeError) as error:  # half an upgrade, or a right that is not had
        _write(failed, f"{type(error).__name__}: {error}\n")
        os._exit(1)
    server.run_server(listening_fd)
    os._exit(0)


def _loaded(path: str):  # type: ignore[no-untyped-def] # known by its path only
    """The module in that file. Not by an import: its directory has modules with names of the standard library's."""
    from importlib.util import module_from_spec, spec_from_file_location  # noqa: PLC0415 - loads more than all the rest here

    spec = spec_from_file_location("metadata_server", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be loaded")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def main(argv: list[str]) -> int:
    """0 when the server listens, in the background; 1 with a sentence when it can't."""
    try:
        run_in_background(options_of(argv))
    except (OSError, ValueError) as error:
        print(f"metadata server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
