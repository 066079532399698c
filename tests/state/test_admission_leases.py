"""A lease that is held is seen at the moment of the write, also when nothing else shows that it is."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import Conflicting
from taskvisor.model.ids import InstanceId
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, VmState
from taskvisor.state.admission import Admission, Holding
from taskvisor.state.codec import encode
from taskvisor.state.keys import Keys
from tests.support.records import SAID_SO, claim, instance, operation
from tests.support.world import read_everything


def test_a_build_of_an_instance_that_another_operation_holds_changes_nothing(
    admission: Admission, client: redis.Redis, keys: Keys
) -> None:
    guest = instance(ports=())
    client.hset(keys.lease(guest.id), mapping={"op": "another", "token": 3})
    before = read_everything(client)

    with pytest.raises(Conflicting, match="operation another holds"):
        admission.admit_build(operation("build-web", guest), guest, claim(guest))

    assert read_everything(client) == before


@pytest.fixture
def guest(admission: Admission, client: redis.Redis, keys: Keys) -> Instance:
    """A guest at rest."""
    at_rest = instance(ports=())
    admission.admit_build(operation("build-web", at_rest), at_rest, claim(at_rest))
    client.delete(keys.lease(at_rest.id))
    return at_rest


@pytest.mark.parametrize("moved", ["lease", "record"])
def test_what_was_seen_at_rest_is_not_written_over_what_has_begun_since(
    admission: Admission, client: redis.Redis, keys: Keys, guest: Instance, moved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its last look and its write an operation is let in; or one has come and gone, and left another record."""
    look, since = admission.read_holding, replace(guest, vm_state=VmState.STOPPED)

    def look_too_early(instance_id: InstanceId) -> Holding | None:
        seen = look(instance_id)
        if moved == "lease":
            client.hset(keys.lease(guest.id), mapping={"op": "another", "token": 3})
        else:
            client.set(keys.instance(guest.id), encode(since))
        return seen

    monkeypatch.setattr(admission, "read_holding", look_too_early)

    with pytest.raises(Conflicting):
        admission.write_at_rest(guest, replace(guest, power_state=PowerState.SHUTDOWN), SAID_SO)

    kept = look(guest.id)
    assert kept is not None
    assert kept.instance == (guest if moved == "lease" else since)
