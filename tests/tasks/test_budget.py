"""What a build costs the control plane: today's numbers as upper bounds. Lower them when the code gets better; a change
that raises one must say in its commit why it is worth it.
"""

import pytest
import redis

from taskvisor.flow.runner import Onward
from tests.support.fleet import Fleet

DOOR_ROUND_TRIPS = 9
"""Besides the edge's look whether the store is open.

Known already? Then network, address, hosts (2), admit with its claim; and who must be told of its ports (3)."""
STEP_ROUND_TRIPS = 3
"""One look, STARTED, DONE. (The first VIF of a process also reads its network.)"""
SURROUNDINGS_ROUND_TRIPS = 2
"""What surrounds a network's ports is read at each plug: others come and go."""
TELLING_ROUND_TRIPS = 3
"""Who must be told of ports that have gone."""
STEPS = 5
MESSAGES = 1 + STEPS
"""One entry and one a step. Besides them the edge asks the host, when it has ended, to keep a copy of the record."""
RECORD_BYTES = 8_000
"""Of an ended build's record: its XML, its layout and its timeline."""


class RoundTrips:
    """Counts what goes over a client's connections: a pipeline is one."""

    def __init__(self, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        kind = client.connection_pool.connection_class
        send = kind.send_packed_command

        def counted(connection: object, *args: object, **named: object) -> object:
            self.count += 1
            return send(connection, *args, **named)

        monkeypatch.setattr(kind, "send_packed_command", counted)


def test_a_build_costs_no_more_round_trips_and_messages_than_this(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.build("warm-up")
    sent = len(fleet.post.delivered)
    trips = RoundTrips(fleet.client, monkeypatch)

    fleet.begin_build("web")
    at_door = trips.count
    fleet.post.deliver_all()

    in_steps = trips.count - at_door
    assert at_door <= DOOR_ROUND_TRIPS
    assert in_steps <= STEPS * STEP_ROUND_TRIPS + SURROUNDINGS_ROUND_TRIPS
    assert 1 + len(fleet.post.delivered) - sent <= MESSAGES


def test_every_step_of_a_build_lets_its_chain_go_on(fleet: Fleet) -> None:
    """A chain that is sent anew after a step would cost a message more each time."""
    operation = fleet.begin_build()
    ways = [fleet.post.run(operation.host, operation.id, step.name).onward for step in operation.steps]

    assert ways == [*[Onward.CONTINUE] * (STEPS - 1), Onward.STOP]


@pytest.mark.parametrize(
    ("flow", "fields", "door_trips", "step_trips"),
    [
        ("instance.stop", {"timeout_s": 0}, 4, 1 * STEP_ROUND_TRIPS),
        ("instance.reboot", {"type": "hard"}, 4, 5 * STEP_ROUND_TRIPS + SURROUNDINGS_ROUND_TRIPS),
        ("instance.delete", {}, 4, 3 * STEP_ROUND_TRIPS + TELLING_ROUND_TRIPS),
    ],
)
def test_a_change_costs_no_more_round_trips_than_this(
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    flow: str,
    fields: dict[str, object],
    door_trips: int,
    step_trips: int,
) -> None:
    fleet.build()
    fleet.ask("instance.stop", "warm-up", instance="web", timeout_s=0)
    fleet.ask("instance.start", "warm-up-2", instance="web")
    trips = RoundTrips(fleet.client, monkeypatch)

    fleet.begin(flow, "op", instance="web", **fields)
    at_door = trips.count
    fleet.post.deliver_all()

    assert at_door <= door_trips
    assert trips.count - at_door <= step_trips


def test_the_record_of_a_build_is_no_larger_than_this(fleet: Fleet) -> None:
    fleet.build()

    assert len(str(fleet.client.hget("taskvisor:op:build-web", "doc"))) <= RECORD_BYTES
