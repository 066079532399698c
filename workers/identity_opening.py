"""How the check of a host's identity is composed from its settings: for a start, an adoption, and the preflight."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from taskvisor.compute.identity import Clash
from taskvisor.model.identity import Role
from taskvisor.model.ids import HostName
from taskvisor.settings import Settings
from taskvisor.state.identities import Identities
from taskvisor.state.keys import Keys
from workers.host_look import read_host_look
from workers.identity import IdentityCheck
from workers.machine import read_seat

if TYPE_CHECKING:
    import redis


def identity_check_for(
    settings: Settings, client: "redis.Redis", *, roles: Collection[Role] = (), overruled: Collection[Clash] = ()
) -> IdentityCheck:
    """The check of this machine. CannotAsk when the machine can't tell its boot."""
    return IdentityCheck(
        host=HostName(settings.host),
        state_dir=settings.state_dir,
        seat=read_seat(settings.state_dir),
        store=Identities(client, Keys(settings.key_prefix)),
        read_look=lambda: read_host_look(settings),
        beats_limit_s=settings.host_down_s,
        roles=roles,
        overruled=overruled,
    )
