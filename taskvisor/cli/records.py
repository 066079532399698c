"""What commands read: the settings, and the read side of the store. Nothing here writes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from taskvisor.cli.exits import UsageError
from taskvisor.cli.render import say
from taskvisor.client import Taskvisor
from taskvisor.model.errors import Refused, TaskvisorError, UnreadableRecord
from taskvisor.model.ids import InstanceId
from taskvisor.model.records import Instance
from taskvisor.settings import Settings, read_settings
from taskvisor.state.aggregates import Aggregates
from taskvisor.state.catalog import Catalog
from taskvisor.state.codec import OnUnreadable
from taskvisor.state.connection import open_redis
from taskvisor.state.drains import Drains
from taskvisor.state.events import Events
from taskvisor.state.explanations import Explanations
from taskvisor.state.flavors import Flavors
from taskvisor.state.floating import FloatingAddresses
from taskvisor.state.history import Histories
from taskvisor.state.host_events import HostEvents
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from taskvisor.state.orphans import Quarantines
from taskvisor.state.schema import require_readable
from taskvisor.state.security_groups import SecurityGroups
from taskvisor.state.series import Series
from taskvisor.state.server_groups import ServerGroups
from taskvisor.state.survey import Survey
from taskvisor.state.ticks import Ticks
from taskvisor.state.usage import UsageRecords
from taskvisor.state.webhooks import Webhooks

COMPLETION_TIMEOUT_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Records:
    """The read side of one store."""

    catalog: Catalog
    hosts: Hosts
    groups: SecurityGroups
    floating: FloatingAddresses
    flavors: Flavors
    histories: Histories
    events: Events
    survey: Survey
    drains: Drains
    host_events: HostEvents
    ticks: Ticks
    series: Series
    usage: UsageRecords
    aggregates: Aggregates
    server_groups: ServerGroups
    explanations: Explanations
    quarantines: Quarantines
    webhooks: Webhooks
    event_wait_limit_s: float
    """The longest that a read of events may wait: below the connection's time-out."""

    def find_instance(self, name_or_id: str) -> Instance:
        """The instance of that name or id; Refused when there is none."""
        instance = self.catalog.find_instance(name_or_id)
        if instance is None:
            raise Refused(f"there is no instance {name_or_id!r}; see `taskvisor list`")
        return instance

    def find_instances(self, names_or_ids: Iterable[str]) -> list[Instance]:
        """Those of these names or ids, in that order, none twice for being said twice; Refused when one is not there."""
        return [self.find_instance(one) for one in dict.fromkeys(names_or_ids)]

    def instance_names(self, ids: Iterable[InstanceId]) -> dict[InstanceId, str]:
        """The names of those of these instances that are there."""
        found = (self.catalog.read_instance(one) for one in ids)
        return {instance.id: instance.name for instance in found if instance is not None}


def settings_or_usage_error() -> Settings:
    """The settings of this process. UsageError names the variable and the rule that its value breaks."""
    try:
        return read_settings()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = "_".join(["TASKVISOR", *(str(part).upper() for part in problem["loc"])])
        raise UsageError(f"{name}={problem['input']!r}: {problem['msg']}") from None


def _say_left_out(problem: UnreadableRecord) -> None:
    say(f"Not shown: {problem}")


@contextmanager
def open_records(
    settings: Settings, *, timeout_s: float | None = None, on_unreadable: OnUnreadable = _say_left_out
) -> Iterator[Records]:
    """The store of these settings; closed at the end. `on_unreadable` is told of records that lists leave out.

    UnreadableRecord when a newer version wrote the store; CannotAsk when Redis is silent.
    """
    timeout_s = timeout_s or settings.redis_timeout_s
    try:
        client = open_redis(settings.redis_url, timeout_s=timeout_s)
    except Refused as error:
        raise UsageError(f"TASKVISOR_REDIS_URL: {error}") from None
    try:
        keys = Keys(settings.key_prefix)
        require_readable(client, keys)
        yield Records(
            catalog=Catalog(client, keys, on_unreadable),
            hosts=Hosts(client, keys, on_unreadable),
            groups=SecurityGroups(client, keys, on_unreadable),
            floating=FloatingAddresses(client, keys),
            flavors=Flavors(client, keys, on_unreadable),
            histories=Histories(client, keys),
            events=Events(client, keys),
            survey=Survey(client, keys),
            drains=Drains(client, keys),
            host_events=HostEvents(client, keys, on_unreadable),
            ticks=Ticks(client, keys, on_unreadable),
            series=Series(client, keys),
            usage=UsageRecords(client, keys),
            aggregates=Aggregates(client, keys, on_unreadable),
            server_groups=ServerGroups(client, keys, on_unreadable),
            explanations=Explanations(client, keys),
            quarantines=Quarantines(client, keys),
            webhooks=Webhooks(client, keys, log_kept=settings.webhook_log_kept, on_unreadable=on_unreadable),
            event_wait_limit_s=timeout_s / 2,
        )
    finally:
        client.close()


@contextmanager
def open_client(settings: Settings) -> Iterator[Taskvisor]:
    """The client of these settings; closed at the end."""
    try:
        client = Taskvisor(settings.redis_url, timeout_s=settings.redis_timeout_s, key_prefix=settings.key_prefix)
    except Refused as error:
        raise UsageError(f"TASKVISOR_REDIS_URL: {error}") from None
    with client:
        yield client


def complete_instance(incomplete: str) -> list[str]:
    """Names, and ids, for the shell's completion; none when they can't be asked quickly."""
    return _complete(incomplete, lambda records: _named(records.catalog.list_instances()))


def complete_measured(incomplete: str) -> list[str]:
    """What is measured: hosts and instances."""
    return complete_host(incomplete) + complete_instance(incomplete)


def complete_build(incomplete: str) -> list[str]:
    """What `why` takes: an instance, or an operation."""
    return complete_instance(incomplete) + complete_operation(incomplete)


def complete_image(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: _named(records.catalog.list_images()))


def complete_network(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: _named(records.catalog.list_networks()))


def complete_group(incomplete: str) -> list[str]:
    return _complete(
        incomplete, lambda records: ((name, id_) for id_, name in records.groups.read_names().names.items())
    )


def complete_floating(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: ((one.address, one.id) for one in records.floating.list()))


def complete_flavor(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: ((record.flavor.name, record.id) for record in records.flavors.list()))


def complete_host(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: ((host.name, None) for host in records.hosts.list_hosts()))


def complete_aggregate(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: ((one.name, None) for one in records.aggregates.read().aggregates))


def complete_server_group(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: _named(records.server_groups.list()))


def complete_operation(incomplete: str) -> list[str]:
    return _complete(incomplete, lambda records: ((one.id, None) for one in records.catalog.list_operations(200)))


class _Named(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


def _named(found: Iterable[_Named]) -> Iterator[tuple[str, str]]:
    return ((one.name, one.id) for one in found)


def _complete(incomplete: str, found: Callable[[Records], Iterable[tuple[str, str | None]]]) -> list[str]:
    """Names that begin so. Ids are offered only to who has begun to type one: beside every name they would be in the way."""
    try:
        with open_records(
            settings_or_usage_error(), timeout_s=COMPLETION_TIMEOUT_S, on_unreadable=lambda _: None
        ) as records:
            known = list(found(records))
    except TaskvisorError:
        return []
    names = [name for name, _ in known if name.startswith(incomplete)]
    return names + [one for _, one in known if incomplete and one is not None and one.startswith(incomplete)]
