"""`python -m workers.preflight`: what this machine lacks, a sentence a line, before anything is started. Exit code 1 if any."""

import sys
from collections.abc import Iterator

import structlog

from net.preflight import list_problems as list_net_problems
from taskvisor.compute.resources.registry import UnknownKind
from taskvisor.model.errors import CannotAsk, Refused, TaskvisorError
from taskvisor.settings import Settings, read_settings
from taskvisor.state.connection import open_redis
from taskvisor.state.fitness import flaws_for, read_facts
from taskvisor.state.keys import Keys
from taskvisor.state.schema import require_readable
from virt.events import LifecycleEvents
from virt.hypervisor import LibvirtHypervisor
from virt.preflight import list_problems as list_virt_problems
from virt.seeds.vendor_data import VendorDataFile
from virt.stores.opening import open_pool
from workers.logs import configure_logs
from workers.node import host_links_of, open_table_of, placement_rules_of, store_options_of, vendor_data_path_of
from workers.store_check import notes_for, refusals_for

log = structlog.get_logger(__name__)


def list_problems(settings: Settings) -> Iterator[str]:
    """Each thing that would keep a guest from being built here, and what to do about it."""
    yield from _redis_problems(settings)
    yield from _plugin_problems(settings)
    yield from _rule_problems(settings)
    if settings.driver == "simulated":
        return
    yield from list_virt_problems(settings.state_dir)
    yield from _pool_problems(settings)
    yield from list_net_problems(settings.state_dir, host_links_of(settings))
    yield from _vendor_data_problems(settings)
    yield from _libvirt_problems(settings)


def _libvirt_problems(settings: Settings) -> Iterator[str]:
    """One sentence at most, within half a minute also when libvirtd hangs: what it does not answer once it will not twice."""
    hypervisor = LibvirtHypervisor(settings.libvirt_uri, virt_type=settings.virt_type)
    events = LifecycleEvents(settings.libvirt_uri)
    try:
        hypervisor.read_facts()
        events.ensure_listening()
    except TaskvisorError as problem:
        yield f"libvirt at {settings.libvirt_uri}: {problem}"
    finally:
        events.close()
        hypervisor.close()


def _plugin_problems(settings: Settings) -> Iterator[str]:
    try:
        open_table_of(settings)
    except UnknownKind as problem:
        yield str(problem)


def _vendor_data_problems(settings: Settings) -> Iterator[str]:
    try:
        VendorDataFile(vendor_data_path_of(settings)).read()
    except CannotAsk as problem:
        yield str(problem)


def _pool_problems(settings: Settings) -> Iterator[str]:
    stores = store_options_of(settings)
    if stores.backend.pool:
        yield from open_pool(stores.backend, stores, settings.state_dir / "instances").list_problems()


def _rule_problems(settings: Settings) -> Iterator[str]:
    try:
        placement_rules_of(settings)
    except Refused as refusal:
        yield str(refusal)


def _redis_problems(settings: Settings) -> Iterator[str]:
    client = open_redis(settings.redis_url, timeout_s=settings.redis_timeout_s)
    try:
        flaws = flaws_for(read_facts(client))
        require_readable(client, Keys(settings.key_prefix))
    except TaskvisorError as problem:
        yield str(problem)
        return
    finally:
        client.close()
    for note in notes_for(flaws, settings):
        log.warning("store_flawed", reason=note)
    yield from refusals_for(flaws, settings)


def main() -> int:
    settings = read_settings()
    configure_logs(settings)
    problems = list(list_problems(settings))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
