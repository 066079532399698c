"""Whether a node may trust the Redis it was given: asked once, before anything of it is consumed.

Must never be asked of a node that runs: one that lives on a Redis is not stopped because its settings changed.
"""

import redis
import structlog

from taskvisor.model.errors import Refused
from taskvisor.settings import Settings
from taskvisor.state.fitness import Flaw, Gravity, flaws_for, read_facts
from taskvisor.state.keys import Keys
from taskvisor.state.schema import ensure_schema

ALLOW = "TASKVISOR_ALLOW_VOLATILE_REDIS=true"

log = structlog.get_logger(__name__)


def ensure_store_fit(client: redis.Redis, settings: Settings) -> None:
    """The store keeps what is written to it, and bears a schema that this version reads. What is worth knowing is in the log.

    Refused, with all that is wrong and how to mend it; UnreadableRecord when a newer version wrote the store; CannotAsk.
    """
    flaws = flaws_for(read_facts(client))
    if refusals := refusals_for(flaws, settings):
        raise Refused("; ".join(refusals))
    for flaw in flaws:
        log.warning("store_flawed", gravity=flaw.gravity.value, reason=flaw.sentence)
    ensure_schema(client, Keys(settings.key_prefix))


def refusals_for(flaws: tuple[Flaw, ...], settings: Settings) -> tuple[str, ...]:
    """Why no node may start there, a sentence each."""
    unusable = [flaw.sentence for flaw in flaws if flaw.gravity is Gravity.UNUSABLE]
    volatile = [flaw.sentence for flaw in flaws if flaw.gravity is Gravity.VOLATILE]
    if settings.allow_volatile_redis:
        return tuple(unusable)
    return (*unusable, *(f"{sentence}, or allow it by {ALLOW} where records may be lost" for sentence in volatile))


def notes_for(flaws: tuple[Flaw, ...], settings: Settings) -> tuple[str, ...]:
    """What an operator should know and nothing is refused for."""
    borne = {Gravity.NOTED, Gravity.VOLATILE} if settings.allow_volatile_redis else {Gravity.NOTED}
    return tuple(flaw.sentence for flaw in flaws if flaw.gravity in borne)
