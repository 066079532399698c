"""`python -m workers.adopt_identity`: this machine is from now on the host that its settings say, whatever it was; then it ends.

For `taskvisor worker --adopt-identity`, which a person calls who knows what a refused start has said. What would let two
machines, or two names, answer for one guest stays refused: see `taskvisor.compute.identity.Clash.adoptable`.
"""

import sys

from taskvisor.compute.identity import ADOPTABLE
from taskvisor.model.errors import TaskvisorError
from taskvisor.settings import Settings, read_settings
from taskvisor.state.connection import open_redis
from workers.identity_opening import identity_check_for
from workers.logs import configure_logs
from workers.store_check import ensure_store_fit


def adopt(settings: Settings) -> str:
    """What was done, as a sentence. Refused with what can't be adopted; CannotAsk when Redis is silent."""
    client = open_redis(settings.redis_url, timeout_s=settings.redis_timeout_s)
    try:
        ensure_store_fit(client, settings)
        identity = identity_check_for(settings, client, overruled=ADOPTABLE).ensure_identity()
    finally:
        client.close()
    return f"this machine is host {identity.host}, with identity {identity.id}"


def main() -> int:
    settings = read_settings()
    configure_logs(settings)
    try:
        print(adopt(settings))
    except TaskvisorError as refusal:
        print(f"host {settings.host} cannot be adopted: {refusal}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
