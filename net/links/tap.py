"""The TAP behind a guest's NIC: made, owned, put on its bridge, removed. Knows nothing of what the bridge leads to.

libvirt attaches to it as `<interface type='ethernet'><target dev='tap…' managed='no'/></interface>`
(https://libvirt.org/formatdomain.html#generic-ethernet-connection): the device is ours before, during and after.
"""

from dataclasses import replace

import structlog

from net.links.link import TAP, Link
from net.links.netlink import Netlink
from net.links.sysctl import ensure_no_ipv6
from net.links.tun import NameTaken, open_new_tap
from taskvisor.model.errors import Contradiction, Retryable

log = structlog.get_logger(__name__)


def ensure_tap(netlink: Netlink, *, name: str, owner: str, mtu: int, queues: int = 1) -> Link:
    """The TAP exists, persistent, for one queue or for several, with its owner's alias and MTU; returned as it is now. Not
    yet on a bridge.

    Contradiction when the name belongs to a link of another owner or kind; that link is left alone. A link without an
    alias is another's too: ours never exist without one (net/links/tun.py). Ours of the other queue mode is made anew when
    nobody has it open; else Contradiction, for it can't be changed and its guest would lose its NIC.
    """
    link = netlink.read_link(name) or _make_tap(netlink, name, owner, queues)
    _require_ours(link, owner)
    if link.multi_queue != (queues > 1):
        link = _remade(netlink, link, owner, queues)
    ensure_no_ipv6(name)
    netlink.ensure_mtu(link, mtu)
    return link


def ensure_tap_on_bridge(netlink: Netlink, tap: Link, bridge: Link) -> None:
    """The TAP is on the bridge, and up."""
    netlink.ensure_port(tap, bridge)
    netlink.ensure_up(tap)


def ensure_tap_absent(netlink: Netlink, *, name: str, owner: str) -> None:
    """The TAP is gone, even from under a process that has it open. Contradiction when the name is a stranger's."""
    link = netlink.read_link(name)
    if link is not None:
        _require_ours(link, owner)
        netlink.ensure_link_absent(link)
        log.info("tap_removed", tap=name)


def _remade(netlink: Netlink, link: Link, owner: str, queues: int) -> Link:
    if link.carrier:
        raise Contradiction(
            f"TAP {link.name} is open, and was made for {_mode(link.multi_queue)}, not for the {queues} that are wanted; left "
            "alone: stop the guest that has it open, then retry"
        )
    netlink.ensure_link_absent(link)
    log.info("tap_of_other_queue_mode_removed", tap=link.name, queues=queues)
    made = _make_tap(netlink, link.name, owner, queues)
    _require_ours(made, owner)
    return made


def _mode(multi_queue: bool) -> str:
    return "several queues" if multi_queue else "one queue"


def _make_tap(netlink: Netlink, name: str, owner: str, queues: int) -> Link:
    try:
        with open_new_tap(name, queues=queues) as tap:
            fresh = _seen(netlink, name)
            netlink.ensure_alias(fresh, owner)
            tap.ensure_persistent()
    except NameTaken:
        log.warning("tap_name_was_taken_meanwhile", tap=name)
        return _seen(netlink, name)
    log.info("tap_made", tap=name)
    return replace(fresh, alias=owner)


def _seen(netlink: Netlink, name: str) -> Link:
    link = netlink.read_link(name)
    if link is None:
        raise Retryable(f"TAP {name} was removed by somebody while it was being made; try again")
    return link


def _require_ours(link: Link, owner: str) -> None:
    if link.kind != TAP:
        raise Contradiction(
            f"link {link.name} is not a TAP (kind: {link.kind}) and was left alone; rename or remove it, then retry"
        )
    if link.alias != owner:
        raise Contradiction(
            f"TAP {link.name} belongs to {link.alias or 'somebody who set no alias'}, not to {owner}, and was left "
            "alone; remove it if nothing uses it, then retry"
        )
