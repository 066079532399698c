"""Records as a worker would have written them, put into a store through `taskvisor.state`."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import redis

from taskvisor.model.ids import HostName, InstanceId, NetworkId, OperationId, PortId, instance_id_for
from taskvisor.model.network import Network, NetworkKind, Port
from taskvisor.model.operation import Failure, Operation, Runner, StepRecord, TimelineEntry
from taskvisor.model.records import Flavor, Image, ImageSource, Instance, Inventory, Resources
from taskvisor.model.states import Direction, Mark, Phase, PowerState, VirtType, VmState
from taskvisor.model.view import instance_view
from taskvisor.state.catalog import Catalog
from taskvisor.state.hosts import Hosts
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.networks import Networks
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer
from tests.support.records import SAID_SO

HOST = HostName("host-1")
STEPS = ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start")


def instance(name: str = "web-1", *, host: str = HOST, **changes: Any) -> Instance:
    """An active instance with one NIC."""
    instance_id = instance_id_for(OperationId(f"build-{name}"))
    port = Port(
        id=PortId(f"port-{name}"),
        instance_id=instance_id,
        network_id=NetworkId("net"),
        network="default",
        index=0,
        mac="52:54:00:00:00:01",
        address="10.152.0.2",
    )
    made = Instance(
        id=instance_id,
        name=name,
        host=HostName(host),
        vm_state=VmState.ACTIVE,
        task_state=None,
        power_state=PowerState.RUNNING,
        flavor=Flavor(name="c1-m128-d1", vcpus=1, memory_mib=128, disk_gib=1),
        image=ImageSource(url="file:///srv/guest.qcow2"),
        image_name="/srv/guest.qcow2",
        ports=(port,),
        metadata={"role": "web"},
        created_at=time.time() - 90,
        launched_at=time.time() - 80,
    )
    return replace(made, **changes)


def operation(operation_id: str, of: Instance, **changes: Any) -> Operation:
    """A build that has just been let in."""
    now = time.time()
    made = Operation(
        id=OperationId(operation_id),
        flow="instance.build",
        instance_id=of.id,
        instance_name=of.name,
        host=of.host,
        request={"name": of.name, "image": of.image_name},
        phase=Phase.RUNNING,
        steps=tuple(StepRecord(name=name) for name in STEPS),
        created_at=now,
        updated_at=now,
    )
    return replace(made, **changes)


def begun(of: Operation, step: str) -> Operation:
    """The step is being run by a process."""
    now = time.time()
    record = of.step(step)
    started = replace(record, do=Mark.STARTED, tries=record.tries + 1, first_started_at=record.first_started_at or now)
    return replace(
        of,
        steps=tuple(started if one.name == step else one for one in of.steps),
        runner=Runner(host=of.host, incarnation="i", pid=1),
        updated_at=now,
        revision=of.revision + 1,
    )


def ended(of: Operation, step: str, outcome: str = "done", message: str | None = None) -> Operation:
    """The step's try has ended."""
    now, record = time.time(), of.step(step)
    after = replace(record, do=Mark.DONE) if outcome == "done" else record
    entry = TimelineEntry(
        step=step,
        direction=Direction.DO,
        attempt=record.tries,
        host=of.host,
        started_at=record.first_started_at or now,
        ended_at=now,
        outcome=outcome,
        message=message,
    )
    return replace(
        of,
        steps=tuple(after if one.name == step else one for one in of.steps),
        timeline=(*of.timeline, entry),
        runner=None,
        updated_at=now,
        revision=of.revision + 1,
    )


def succeeded(of: Operation, instance: Instance, extra: Mapping[str, Any] | None = None) -> Operation:
    for name in STEPS:
        if of.step(name).do is not Mark.DONE:
            of = ended(begun(of, name), name)
    result = {**instance_view(instance), **(extra or {})}
    return replace(of, phase=Phase.SUCCEEDED, settled_at=time.time(), result=result, revision=of.revision + 1)


def failed(of: Operation, *, step: str, code: str, message: str, phase: Phase = Phase.FAILED) -> Operation:
    of = ended(begun(of, step), step, code, message)
    failure = Failure(code=code, message=message, step=step)
    return replace(of, phase=phase, failure=failure, settled_at=time.time(), revision=of.revision + 1)


class Book:
    """Puts records into one store."""

    def __init__(self, client: "redis.Redis", prefix: str) -> None:
        self.client = client
        self.keys = Keys(prefix)
        self.catalog = Catalog(client, self.keys)
        self.hosts = Hosts(client, self.keys)
        self._writer = Writer(
            keys=self.keys, operation_keep_s=3600, events_kept=1000, outcome_for=lambda _operation, _instance: None
        )
        self._journal = RedisJournal(client, self._writer)

    def event_cursors(self) -> list[str]:
        """Of every entry of the stream of events, the oldest first."""
        found = cast("list[tuple[str, dict[str, str]]]", self.client.xrange(self.keys.events))
        return [cursor for cursor, _ in found]

    def put_operation(self, operation: Operation) -> Operation:
        tx = Transaction()
        self._writer.operation(tx, operation, None)
        tx.run(self.client, "put an operation")
        return operation

    def put_instance(self, instance: Instance) -> Instance:
        tx = Transaction()
        self._writer.new_instance(tx, instance, SAID_SO)
        tx.run(self.client, "put an instance")
        return instance

    def put_image(self, name: str, **changes: Any) -> Image:
        tx = Transaction()
        source = ImageSource(url="file:///srv/x.qcow2", sha256="ab" * 32)
        image = Image(
            id=InstanceId("i"),  # type: ignore[arg-type]
            name=name,
            source=source,
            size_bytes=300 * 1024**2,
            virtual_bytes=1024**3,
            created_at=time.time(),
        )
        image = replace(image, **changes)
        self._writer.image(tx, image)
        tx.run(self.client, "put an image")
        return image

    def put_network(self, name: str) -> None:
        Networks(self.client, self._writer).ensure(
            Network(id=NetworkId(name), name=name, kind=NetworkKind.NAT, cidr="10.1.0.0/24", gateway="10.1.0.1")
        )

    def put_host(self, name: str = HOST, *, alive_s: float = 60.0) -> None:
        amount = Resources(vcpus=8, memory_mib=4096, disk_gib=100)
        inventory = Inventory(
            total=amount,
            limits=amount,
            arch="x86_64",
            virt_type=VirtType.QEMU,
            hypervisor_version="9.0.0",
            domains=0,
            disk_free_gib=90,
            reported_at=time.time(),
        )
        self.hosts.write_inventory(HostName(name), inventory)
        if alive_s:
            self.hosts.note_alive(HostName(name), "i", keep_s=alive_s)

    def note_progress(self, operation: Operation, step: str, done_bytes: int, total_bytes: int) -> None:
        self._journal.note_progress(operation, step, done_bytes, total_bytes)
