"""Addresses, claims, names and leases against a model of a few lines, over orders of calls that nobody thought of."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import DoesNotFit, Refused, TaskvisorError
from taskvisor.model.ids import mac_for, port_id_for
from taskvisor.model.records import Instance, Resources
from taskvisor.model.states import Phase
from taskvisor.state.addresses import Addresses, Allocated
from taskvisor.state.admission import Admission
from taskvisor.state.connection import open_redis
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.networks import Networks
from taskvisor.state.writing import Writer
from tests.support import records

KEYS = Keys("model:")
LIMITS = Resources(vcpus=3, memory_mib=1000, disk_gib=1000)
WANTED = ("10.152.0.2", "10.152.0.3", "10.152.0.4")


class Store(RuleBasedStateMachine):
    """Builds come and go; `held` is what each has, by its operation."""

    url: str
    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.client = open_redis(self.url, timeout_s=5.0)
        self.client.flushdb()
        writer = Writer(keys=KEYS, operation_keep_s=60, events_kept=10, outcome_for=lambda *_: None)
        self.addresses = Addresses(self.client, KEYS)
        self.admission = Admission(self.client, writer)
        self.journal = RedisJournal(self.client, writer)
        Networks(self.client, writer).ensure(records.NETWORK)
        self.noted: dict[str, str] = {}
        self.held: dict[str, Instance] = {}

    def teardown(self) -> None:
        self.client.close()

    @rule(target=asked, number=st.integers(0, 4), wanted=st.sampled_from((None, *WANTED)))
    def allocate(self, number: int, wanted: str | None) -> str:
        """A port is given the address that it has, wants, or gets; never one that another has."""
        name = f"op-{number}"
        port, others = _port(name), {address for owner, address in self._addresses().items() if owner != name}
        has = self._addresses().get(name)
        try:
            got = self.addresses.allocate(records.NETWORK, port.port_id, mac=port.mac, wanted=wanted, now=1.0).address
        except TaskvisorError:
            assert wanted in others or (has is not None and wanted != has)
        else:
            assert got not in others
            assert has in (None, got)
            if name not in self.held:
                self.noted[name] = got
        return name

    @rule(name=asked)
    def give_back(self, name: str) -> None:
        """A port that is part of an instance stays as it is."""
        given = self.addresses.give_back(_port(name))
        assert given == (self.noted.pop(name, None) is not None)

    @rule(name=asked, called=st.sampled_from(("web", "db")))
    def admit(self, name: str, called: str) -> None:
        """All of a build is let in, or nothing: for a name that is taken, a full host, or a port that is not its own."""
        address = self._addresses().get(name, "10.152.9.9")
        instance = _instance(name, called, address)
        operation = records.operation(name, instance)
        taken = called in {one.name for one in self.held.values()}
        fits = name in self.noted and not taken and len(self.held) < LIMITS.vcpus
        try:
            self.admission.admit_build(operation, instance, records.claim(instance, limits=LIMITS))
        except TaskvisorError as refusal:
            assert not fits or self.journal.load(operation.id) is not None
            if isinstance(refusal, DoesNotFit):
                assert len(self.held) == LIMITS.vcpus
            if isinstance(refusal, Refused):
                assert taken
        else:
            assert fits or self.held.get(name) == instance  # carried out before: nothing is done twice
            self.noted.pop(name, None)
            self.held[name] = instance

    @rule(name=asked)
    def end(self, name: str) -> None:
        """A build's end gives back all that it had."""
        instance, loaded = self.held.get(name), self.journal.load(records.operation(name, _instance(name)).id)
        if instance is None or loaded is None:
            return
        before = loaded.operation
        after: Any = records.operation(name, instance, phase=Phase.FAILED, revision=before.revision + 1)
        self.journal.commit(
            Change(before=before, after=after, lease=LeaseMove.RELEASE, instance=instance, forget_instance=True)
        )
        del self.held[name]

    @invariant()
    def what_is_held_is_what_was_given(self) -> None:
        network, host = records.NETWORK.id, records.HOST
        given = {_port(name).port_id: address for name, address in self._addresses().items()}
        assert self.client.hgetall(KEYS.ports(network)) == given
        assert self.client.hgetall(KEYS.addresses(network)) == {address: port for port, address in given.items()}
        assert set(self.client.hvals(KEYS.macs)) == set(given)
        assert set(self.client.hkeys(KEYS.claims(host))) == {one.id for one in self.held.values()}
        assert int(self.client.hget(KEYS.used(host), "vcpus") or 0) == len(self.held) <= LIMITS.vcpus
        assert self.client.hgetall(KEYS.names) == {one.name: one.id for one in self.held.values()}
        leases = {str(key).rpartition(":")[2] for key in self.client.keys("model:lease:*")}
        assert leases == {one.id for one in self.held.values()}

    def _addresses(self) -> dict[str, str]:
        return {**self.noted, **{name: one.addresses[0] for name, one in self.held.items()}}


def _instance(name: str, called: str = "web", address: str = "10.152.0.2") -> Instance:
    instance = records.instance(called, name)
    return records.instance(called, name, ports=(records.port(instance.id, address=address),))


def _port(name: str) -> Allocated:
    port_id = port_id_for(_instance(name).id, 0)
    return Allocated(network_id=records.NETWORK.id, port_id=port_id, mac=mac_for(port_id))


@pytest.mark.crash
def test_the_store_holds_what_the_model_holds(redis_url: str) -> None:
    class OnThisServer(Store):
        url = redis_url

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
