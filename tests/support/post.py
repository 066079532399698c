"""The messages between steps, as Celery's chains carry them: in the open, so that a test can double, drop and reorder them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.port_news import tell_of_ports
from taskvisor.flow.recovery import wants_settling
from taskvisor.flow.runner import Next, Onward, StepMessage
from taskvisor.flow.transitions import messages_for
from taskvisor.model.ids import HostName, NetworkId, OperationId
from taskvisor.model.network import Port
from taskvisor.model.operation import Operation
from taskvisor.model.states import Direction

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

DELIVERIES_LIMIT = 2000
SETTLE = "operation.settle"


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The steps still to be sent, in order, to one host's queue; with SETTLE for its only step, to any control node."""

    operation_id: OperationId
    host: HostName
    direction: Direction
    steps: tuple[str, ...]
    due_at: float


class Post:
    """What `tasks/edge.py` does with Celery, done by hand."""

    def __init__(self, fleet: "Fleet") -> None:
        self._fleet = fleet
        self.chains: list[Chain] = []
        self.delivered: list[str] = []
        self.ended: list[Operation] = []
        self.told: list[tuple[HostName, tuple[NetworkId, ...]]] = []
        """Hosts that were asked to look at networks of theirs, and have not yet."""
        self.between: Callable[[], None] = lambda: None
        """Called before each delivery."""

    def launch(self, operation: Operation) -> None:
        """Send the operation on from where its journal says it is."""
        steps = (SETTLE,) if wants_settling(operation) else messages_for(operation)
        if steps:
            due_at = operation.not_before or self._fleet.clock.now()
            self.chains.append(
                Chain(
                    operation_id=operation.id,
                    host=operation.host,
                    direction=operation.direction,
                    steps=steps,
                    due_at=due_at,
                )
            )

    def tell_of_ports(self, ports: tuple[Port, ...], *, aware: HostName | None = None) -> None:
        """As `NetworkTasks.tell_of_ports`."""
        tell_of_ports(self._fleet.store, lambda host, networks: self.told.append((host, networks)), ports, aware=aware)

    def deliver_told(self) -> None:
        """Every host that was asked to look at networks does so."""
        while self.told:
            host, networks = self.told.pop(0)
            self._fleet.hosts[host].plugs.refresh(networks)

    def deliver_all(self) -> None:
        """Until the post is empty; what is not due yet is waited for. Fails when that never comes."""
        for _ in range(DELIVERIES_LIMIT):
            if not self.chains:
                return
            self.deliver(min(self.chains, key=lambda chain: chain.due_at))
        raise AssertionError(f"the post is not empty after {DELIVERIES_LIMIT} deliveries: {self.chains}")

    def deliver(self, chain: Chain) -> Next | None:
        """The chain's first message; what follows from it is put in the post. Returns the runner's answer, if it was asked."""
        self.between()
        if chain in self.chains:  # a double is delivered without being there
            self.chains.remove(chain)
        self._fleet.clock.advance_to(chain.due_at)
        step, *rest = chain.steps
        self.delivered.append(step if chain.direction is Direction.DO else f"{step}.undo")
        if step == SETTLE:
            following = self._fleet.settler.settle(chain.operation_id)
            if following is not None:
                self.launch(following)
            return None
        answer = self.run(chain.host, chain.operation_id, step, chain.direction)
        self._go_on(chain, tuple(rest), answer)
        return answer

    def run(self, host: HostName, operation_id: OperationId, step: str, direction: Direction = Direction.DO) -> Next:
        """One message, given to the runner of that host; nothing follows from it."""
        message = StepMessage(operation_id=operation_id, step=step, direction=direction)
        return self._fleet.hosts[host].runner.run(message)

    def _go_on(self, chain: Chain, rest: tuple[str, ...], following: Next) -> None:
        if following.ended is not None:
            self.ended.append(following.ended)
        self.tell_of_ports(following.gone)
        if following.onward is Onward.CONTINUE and rest:
            now = self._fleet.clock.now()
            self.chains.append(
                Chain(
                    operation_id=chain.operation_id,
                    host=chain.host,
                    direction=chain.direction,
                    steps=rest,
                    due_at=now,
                )
            )
        if following.onward is Onward.SEND and following.operation is not None:
            self.launch(following.operation)
