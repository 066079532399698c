"""How a person gets at a guest from here: its address, and its host. Decides; runs nothing.

The host's name in the fleet is taken for its name to ssh as well; where these differ, ~/.ssh/config says so (Host, HostName).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskvisor.cli.exits import UsageError
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName, NetworkId, PortId
from taskvisor.model.network import NetworkKind
from taskvisor.model.records import Instance
from taskvisor.settings import Settings

ADMIN_USER = "os_admin_user"
"""The image property by which Glance names the account to log in with
(https://docs.openstack.org/glance/latest/admin/useful-image-properties.html)."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """An address of a guest. `only_from`: the host from which alone it can be reached; None: from wherever it is routed."""

    address: str
    only_from: HostName | None = None


def way_to(
    instance: Instance, floating: Mapping[PortId, str], kinds: Mapping[NetworkId, NetworkKind], here: str
) -> Way:
    """The way to a guest, floating addresses first, then its own in NIC order, those that can be reached from here before others.

    `floating` is by port, `kinds` by the network's id, `here` this host's name in the fleet. Refused when it has no NIC.
    """
    for port in instance.ports:
        if port.id in floating:
            return Way(address=floating[port.id])
    ways = [
        Way(address=port.address, only_from=instance.host if kinds.get(port.network_id) is NetworkKind.NAT else None)
        for port in instance.ports
    ]
    if not ways:
        raise Refused(f"{instance.name} has no NIC, so no address; try: taskvisor console {instance.name}")
    return next((way for way in ways if way.only_from in (None, here)), ways[0])


def ssh_words(instance: Instance, way: Way, *, here: str, user: str | None, jump: str | None) -> list[str]:
    """The ssh command to a guest. Refused, with how to jump, when its address can be reached from another host alone."""
    if jump is None and way.only_from not in (None, here):
        raise Refused(
            f"{instance.name} is at {way.address} on a nat network, which only its host {way.only_from} reaches;"
            f" go by it: taskvisor ssh {instance.name} -J {way.only_from}; or bind a floating address"
        )
    login = user or instance.image_properties.get(ADMIN_USER)
    for name, word in (("--user", login), ("--jump", jump)):
        if word is not None and (word.startswith("-") or not word.strip()):
            raise UsageError(f"{name} {word!r}: must be a name; ssh would take it for an option")
    return [
        "ssh",
        *(("-J", jump) if jump else ()),
        *(("-l", login) if login else ()),
        way.address,
    ]


def hop_words(instance: Instance, settings: Settings, words: Sequence[str], *options: str) -> list[str]:
    """The ssh command by which a command of ours is run on the guest's host, on a terminal. The id names it there too."""
    return ["ssh", "-t", *options, instance.host, settings.remote_taskvisor, *words]
