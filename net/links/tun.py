"""TAP devices, by the ioctls of /dev/net/tun. Source: the kernel's Documentation/networking/tuntap.rst, linux/if_tun.h.

A TAP lives as long as a process has it open, until it is made persistent. That is what makes it safe: it is given its
owner's alias *before* it is made persistent, so a process that dies in between leaves no device at all, and a device
without an alias is never ours. IFF_TUN_EXCL makes the kernel refuse a name that exists, whatever bears it.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from taskvisor.model.errors import DoesNotFit, Retryable

DEVICE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_TUN_EXCL = 0x8000
IFREQ = struct.Struct("16sH22x")


class NameTaken(Exception):
    """A link of that name exists already."""


@dataclass(frozen=True, kw_only=True)
class NewTap:
    """A TAP that this process has just made and holds open."""

    name: str
    fd: int

    def ensure_persistent(self) -> None:
        """The TAP stays when this process closes it or dies."""
        fcntl.ioctl(self.fd, TUNSETPERSIST, 1)


@contextmanager
def open_new_tap(name: str) -> Iterator[NewTap]:
    """A new TAP with one queue, which goes at the end of the block unless it was made persistent.

    NameTaken when a link of that name exists; DoesNotFit when this host has no usable /dev/net/tun.
    """
    fd = open_tun_device()
    try:
        _make_tap(fd, name)
        yield NewTap(name=name, fd=fd)
    finally:
        os.close(fd)


def open_tun_device() -> int:
    """A file descriptor of /dev/net/tun. DoesNotFit, in words, when it can't be opened."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DoesNotFit(f"{DEVICE} is not there; run `modprobe tun`, or give the container that device") from error
    except OSError as error:
        raise DoesNotFit(
            f"{DEVICE} can't be opened: {error}; run the worker as root and load the module tun"
        ) from error


def _make_tap(fd: int, name: str) -> None:
    try:
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise NameTaken(name) from error
        if error.errno == errno.EPERM:
            raise DoesNotFit(
                f"can't make TAP {name}: this process lacks CAP_NET_ADMIN; run the worker as root"
            ) from error
        raise Retryable(f"can't make TAP {name}: {error}") from error
