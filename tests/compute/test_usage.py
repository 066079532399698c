"""What guests have by the hypervisor, against what is recorded of them."""

from dataclasses import replace

from taskvisor.compute.usage import REMARKS_LIMIT, usage_for
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DomainUse
from taskvisor.model.records import Instance, Resources
from taskvisor.model.states import TaskState
from tests.support.records import instance

GUEST = replace(instance(ports=()), task_state=None)
FLAVOR = GUEST.flavor
AS_RECORDED = DomainUse(
    instance_id=GUEST.id, name="instance-1", runs=True, vcpus=FLAVOR.vcpus, memory_mib=FLAVOR.memory_mib
)
STRANGER = DomainUse(instance_id=InstanceId("s"), name="stray", runs=True, vcpus=2, memory_mib=512)
RECORDED: dict[InstanceId, Instance] = {GUEST.id: GUEST}


def test_guests_that_are_as_recorded_are_summed_and_nothing_is_said() -> None:
    usage = usage_for(RECORDED, [AS_RECORDED])
    assert usage.guests == Resources(vcpus=FLAVOR.vcpus, memory_mib=FLAVOR.memory_mib)
    assert (usage.orphans, usage.orphan_memory_mib, usage.remarks) == ((), 0, ())


def test_domains_of_no_record_are_orphans_and_take_memory_while_they_run() -> None:
    off = replace(STRANGER, instance_id=InstanceId("off"), runs=False)
    usage = usage_for(RECORDED, [AS_RECORDED, STRANGER, off])
    assert (usage.orphans, usage.orphan_memory_mib) == (("off", "s"), 512)


def test_a_guest_of_another_size_than_its_flavor_is_told_of_once_it_is_at_rest() -> None:
    grown = replace(AS_RECORDED, vcpus=FLAVOR.vcpus + 1, memory_mib=FLAVOR.memory_mib - 1)
    name = f"{GUEST.name} ({GUEST.id})"
    assert usage_for(RECORDED, [grown]).remarks == (
        f"{name} has {FLAVOR.vcpus + 1} CPUs, its flavor {FLAVOR.vcpus}",
        f"{name} has {FLAVOR.memory_mib - 1} MiB, its flavor {FLAVOR.memory_mib}",
    )
    under_way = {GUEST.id: replace(GUEST, task_state=TaskState.REBOOTING)}
    assert usage_for(under_way, [grown]).remarks == ()


def test_no_more_than_some_are_told_of_one_by_one() -> None:
    many = {InstanceId(f"i{number}"): replace(GUEST, id=InstanceId(f"i{number}")) for number in range(30)}
    domains = [replace(AS_RECORDED, instance_id=instance_id, memory_mib=1) for instance_id in many]
    remarks = usage_for(many, domains).remarks
    assert (len(remarks), remarks[-1]) == (REMARKS_LIMIT + 1, "and 20 more")
