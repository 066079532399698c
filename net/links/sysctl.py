"""The kernel's network switches below /proc/sys/net. They follow the caller's network namespace; /sys does not.

Source: the kernel's Documentation/networking/ip-sysctl.rst.
"""

from pathlib import Path

import structlog

from taskvisor.model.errors import CannotAsk, DoesNotFit, Retryable

log = structlog.get_logger(__name__)

ROOT = Path("/proc/sys/net")
FORWARDING = "ipv4/ip_forward"


def ensure_sysctl(name: str, value: str) -> None:
    """The switch `name` (relative to /proc/sys/net, with slashes) has the value.

    DoesNotFit when it can't be written; Retryable when its link has gone. A kernel without IPv6 has it disabled.
    """
    path = ROOT / name
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except FileNotFoundError as error:
        if name.startswith("ipv6/") and not (ROOT / "ipv6").exists():
            return
        raise Retryable(f"can't set {path} to {value}: it is not there, so its link has gone") from error
    except OSError as error:
        raise DoesNotFit(f"can't set {path} to {value}: {error}; make /proc/sys/net writable for the worker") from error


def ensure_no_ipv6(link: str) -> None:
    """The host itself speaks no IPv6 on the link: no link-local address, no answer to a guest's router advertisement.

    What guests send each other across a bridge is not touched by it.
    """
    ensure_sysctl(f"ipv6/conf/{link}/disable_ipv6", "1")


def ensure_forwarding(record: Path) -> None:
    """IPv4 packets are forwarded between links. When it was we who switched it on, the file `record` says so.

    It is never switched off again: by then somebody else may rely on it.
    """
    if (ROOT / FORWARDING).read_text().strip() == "1":
        return
    record.write_text("net.ipv4.ip_forward was 0 and has been set to 1 by Taskvisor, for a network with NAT.\n")
    ensure_sysctl(FORWARDING, "1")
    log.info("forwarding_enabled", record=str(record))


def speaks_ipv6(link: str) -> bool:
    """Whether the host speaks IPv6 on the link. CannotAsk when it can't be read; a link that has gone speaks nothing."""
    path = ROOT / f"ipv6/conf/{link}/disable_ipv6"
    try:
        return path.read_text().strip() == "0"
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CannotAsk(f"can't read {path}: {error}") from error


def ensure_no_address_check(link: str) -> None:
    """The host speaks IPv6 on the link without asking first whether somebody has its addresses (DAD), and believes no router.

    For an address that is on several links on purpose. Source: ip-sysctl.rst, accept_dad.
    """
    for name, value in (("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")):
        ensure_sysctl(f"ipv6/conf/{link}/{name}", value)
