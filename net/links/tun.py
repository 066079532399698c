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
IFF_MULTI_QUEUE = 0x0100
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
def open_new_tap(name: str, *, queues: int = 1) -> Iterator[NewTap]:
    """A new TAP, which goes at the end of the block unless it was made persistent.

    With more than one queue it is one that may be opened so often: each opening is a queue. How often is up to who opens
    it, and all must open it in the way that it was made (the kernel's EINVAL), so a guest's driver must agree with it.

    NameTaken when a link of that name exists; DoesNotFit when this host has no usable /dev/net/tun.
    """
    fd = open_tun_device()
    try:
        _make_tap(fd, name, IFF_MULTI_QUEUE if queues > 1 else 0)
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


def _make_tap(fd: int, name: str, more_flags: int) -> None:
    try:
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL | more_flags))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise NameTaken(name) from error
        if error.errno == errno.EPERM:
            raise DoesNotFit(
                f"can't make TAP {name}: this process lacks CAP_NET_ADMIN; run the worker as root"
            ) from error
        raise Retryable(f"can't make TAP {name}: {error}") from error
