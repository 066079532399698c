"""What a host does for one of its own guests by no operation: alone with it, at rest, and after a second look."""

from collections.abc import Callable
from typing import Protocol

import structlog

from tasks.store import Store
from taskvisor.flow.ports import Exclusion
from taskvisor.model.errors import Busy, CannotAsk, TaskvisorError
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Instance

log = structlog.get_logger(__name__)


class OnHost(Protocol):
    """Whoever does it. `exclusion` is that of the host's runner: no step of the guest runs meanwhile."""

    @property
    def store(self) -> Store: ...
    @property
    def host(self) -> HostName: ...
    @property
    def exclusion(self) -> Exclusion: ...


def acted_alone(by: OnHost, instance_id: InstanceId, act: Callable[[Instance], bool]) -> bool:
    """What `act` made of the record as it is then; False where the guest is not this host's any more, or an operation holds it.

    Busy while a step of it runs. What `act` raises passes.
    """
    with by.exclusion.hold(instance_id) as alone:
        if not alone:
            raise Busy(f"a step of instance {instance_id} runs on this host; ask again when that has ended")
        holding = by.store.admission.read_holding(instance_id)
        if holding is None or holding.lease is not None or holding.instance.host != by.host:
            return False
        return act(holding.instance)


def done_alone(by: OnHost, instance_id: InstanceId, act: Callable[[Instance], bool], *, undone: str) -> bool:
    """The same, one of many: False also while a step runs, and an act that is refused hinders no other: it is logged, as the
    event `undone`. CannotAsk passes.
    """
    try:
        return acted_alone(by, instance_id, act)
    except CannotAsk:
        raise
    except Busy:
        return False
    except TaskvisorError as problem:
        log.error(undone, instance_id=instance_id, reason=str(problem))  # noqa: TRY400 - says all there is
        return False
