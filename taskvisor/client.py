"""The Python client: asks for operations by task name, and watches them. Any Celery app can do the same with `send_task`.

It imports no task, and neither libvirt nor anything else a worker needs; Celery itself is imported at first use. Its Celery
app is its own: it never becomes the current or the default app, so it works inside a process (or a task) of another app,
and CELERY_BROKER_URL and its kin, which override what an app is configured with, do not lead it astray.

    with Taskvisor("redis://127.0.0.1:6379/0") as taskvisor:
        handle = taskvisor.build(name="web-1", image="/srv/images/debian-12.qcow2", flavor="c2-m2048-d10")
        print(handle.wait(600)["addresses"])
"""

from __future__ import annotations  # what requests come to is imported by who checks types only

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Unpack

from taskvisor.fleet_client import FleetRequests
from taskvisor.fork_gate import GATE
from taskvisor.handle import Handle
from taskvisor.host_client import HostRequests
from taskvisor.model.errors import CannotAsk, Unauthorised
from taskvisor.model.queues import COMPUTE_QUEUE, control_queue
from taskvisor.model.urls import celery_url_for, require_redis_url
from taskvisor.opened import Connections
from taskvisor.record_reads import RecordReads

if TYPE_CHECKING:
    from taskvisor.fields import (
        ChangedFlavorView,
        ChangedFloatingView,
        CreatedNetworkView,
        DeletedFloatingView,
        DeletedImageView,
        DeletedRecordView,
        DeletedView,
        FlavorFields,
        KeptView,
        NetworkFields,
        NewFlavorFields,
        NicFields,
        PowerView,
        RegisteredView,
        RepairView,
        RuleFields,
        SnapshotView,
        VolumeFields,
        WishView,
        WrittenGroupView,
    )
    from taskvisor.handle import Outcome
    from taskvisor.model.operation import Operation
    from taskvisor.model.view import InstanceView
    from taskvisor.state.keys import Keys

DEFAULT_KEY_PREFIX = "taskvisor:"


class Taskvisor(FleetRequests, HostRequests, RecordReads):
    """Asks for operations. Safe in threads; after a fork it opens its connections anew. Close it, or use it with `with`.

    `redis_url` is redis://, rediss://, unix:///path?db=0 or Celery's redis+socket:///path?virtual_host=0; without one, that
    of TASKVISOR_REDIS_URL, else of the settings' default. Refused for another kind of URL. Nothing is asked of Redis before
    the first request.

    Every request returns once it is in the queue, which takes at most about twice `timeout_s`; CannotAsk when Redis did
    not take it, and then it may be there all the same: ask again with the same `operation_id`. The same id is the same
    operation, however often it is asked.
    """

    def __init__(self, redis_url: str | None = None, *, timeout_s: float = 5.0, key_prefix: str | None = None) -> None:
        """`key_prefix`: TASKVISOR_KEY_PREFIX of the workers, by which records are read. Without a URL it is read as that is."""
        if redis_url is None:
            redis_url, configured_prefix = _configured()
            key_prefix = key_prefix or configured_prefix
        self._key_prefix = key_prefix or DEFAULT_KEY_PREFIX
        self._connections = Connections(celery_url_for(require_redis_url(redis_url)), timeout_s)

    def __enter__(self) -> Taskvisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The connections are closed. A later request opens new ones."""
        self._connections.close()

    def build(
        self,
        *,
        name: str,
        image: str,
        image_sha256: str | None = None,
        image_format: str | None = None,
        image_properties: Mapping[str, str] | None = None,
        flavor: str | FlavorFields | None = None,
        networks: Sequence[str | NicFields] | None = None,
        ssh_keys: Sequence[str] | None = None,
        user_data: str | None = None,
        config_drive: Literal["nocloud", "configdrive", "configdrive-vfat"] | None = None,
        metadata: Mapping[str, str] | None = None,
        host: str | None = None,
        project: str | None = None,
        on_failure: Literal["rollback", "keep"] | None = None,
        volumes: Sequence[str | VolumeFields] | None = None,
        availability_zone: str | None = None,
        server_group: str | None = None,
        require_labels: Sequence[str] | None = None,
        forbid_labels: Sequence[str] | None = None,
        operation_id: str | None = None,
    ) -> Handle[InstanceView]:
        """A new instance, running. Fields as `taskvisor.model.spec.BuildSpec` has them; what is None takes its default there."""
        fields = {
            "name": name,
            "image": image,
            "image_sha256": image_sha256,
            "image_format": image_format,
            "image_properties": None if image_properties is None else dict(image_properties),
            "flavor": flavor,
            "networks": None if networks is None else list(networks),
            "ssh_keys": None if ssh_keys is None else list(ssh_keys),
            "user_data": user_data,
            "config_drive": config_drive,
            "metadata": None if metadata is None else dict(metadata),
            "host": host,
            "project": project,
            "on_failure": on_failure,
            "volumes": None if volumes is None else list(volumes),
            "availability_zone": availability_zone,
            "server_group": server_group,
            "require_labels": None if require_labels is None else list(require_labels),
            "forbid_labels": None if forbid_labels is None else list(forbid_labels),
        }
        return self._ask("instance.build", fields, operation_id)

    def delete(self, instance: str, *, operation_id: str | None = None) -> Handle[DeletedView]:
        """The instance, by name or id, and all that was held for it are gone. Stops whatever else is done to it."""
        return self._ask("instance.delete", {"instance": instance}, operation_id)

    def soft_delete(
        self, instance: str, *, wait_turn_s: int | None = None, operation_id: str | None = None
    ) -> Handle[PowerView]:
        """The instance is off and deleted softly: it keeps all that it has, and can be restored until it is reclaimed."""
        return self._ask("instance.soft_delete", {"instance": instance, "wait_turn_s": wait_turn_s}, operation_id)

    def restore(
        self, instance: str, *, wait_turn_s: int | None = None, operation_id: str | None = None
    ) -> Handle[PowerView]:
        """The instance, which was deleted softly, runs again."""
        return self._ask("instance.restore", {"instance": instance, "wait_turn_s": wait_turn_s}, operation_id)

    def reclaim(self, instance: str, *, operation_id: str | None = None) -> Handle[DeletedView]:
        """The instance, which was deleted softly, and all that was held for it are gone. Refused for one that was not."""
        return self._ask("instance.reclaim", {"instance": instance}, operation_id)

    def start(
        self, instance: str, *, wait_turn_s: int | None = None, operation_id: str | None = None
    ) -> Handle[PowerView]:
        """The instance runs.

        Here as in `stop`, `reboot` and `snapshot`: when another operation holds the instance it is Conflicting, or waits
        for its turn for `wait_turn_s`.
        """
        return self._ask("instance.start", {"instance": instance, "wait_turn_s": wait_turn_s}, operation_id)

    def stop(
        self,
        instance: str,
        *,
        timeout_s: int | None = None,
        wait_turn_s: int | None = None,
        operation_id: str | None = None,
    ) -> Handle[PowerView]:
        """The instance is off: asked to shut down, and switched off after `timeout_s` (0: at once; None: the host's setting)."""
        fields = {"instance": instance, "timeout_s": timeout_s, "wait_turn_s": wait_turn_s}
        return self._ask("instance.stop", fields, operation_id)

    def reboot(
        self,
        instance: str,
        *,
        type: Literal["soft", "hard"] = "soft",  # noqa: A002 - the request's own word
        wait_turn_s: int | None = None,
        operation_id: str | None = None,
    ) -> Handle[InstanceView]:
        """The instance was off and runs again. Hard does not ask it first."""
        fields = {"instance": instance, "type": type, "wait_turn_s": wait_turn_s}
        return self._ask("instance.reboot", fields, operation_id)

    def snapshot(
        self,
        instance: str,
        image: str,
        *,
        method: Literal["auto", "live", "cold"] | None = None,
        quiesce: Literal["auto", "required", "never"] | None = None,
        format: Literal["qcow2", "raw"] | None = None,  # noqa: A002 - the request's own word
        compression: Literal["none", "zlib", "zstd"] | None = None,
        wait_turn_s: int | None = None,
        operation_id: str | None = None,
    ) -> Handle[SnapshotView]:
        """The instance's root disk, as it is at one point in time, is registered as `image`.

        Fields as `taskvisor.model.spec.SnapshotSpec` has them; what is None takes its default there, or the host's.
        """
        fields = {
            "instance": instance,
            "image": image,
            "method": method,
            "quiesce": quiesce,
            "format": format,
            "compression": compression,
            "wait_turn_s": wait_turn_s,
        }
        return self._ask("instance.snapshot", fields, operation_id)

    def register_image(
        self,
        name: str,
        source: str,
        *,
        sha256: str | None = None,
        format: str | None = None,  # noqa: A002 - the request's own word
        min_disk_gib: int | None = None,
        min_memory_mib: int | None = None,
        properties: Mapping[str, str] | None = None,
        operation_id: str | None = None,
    ) -> Handle[RegisteredView]:
        """`name` stands for the image at `source`, a path on hosts or a URL; fields as in `taskvisor.model.spec.ImageSpec`."""
        fields = {
            "name": name,
            "source": source,
            "sha256": sha256,
            "format": format,
            "min_disk_gib": min_disk_gib,
            "min_memory_mib": min_memory_mib,
            "properties": None if properties is None else dict(properties),
        }
        return self._ask("image.register", fields, operation_id)

    def delete_image(self, image: str, *, operation_id: str | None = None) -> Handle[DeletedImageView]:
        """Nobody builds from the image, by name or id, any more; it ends when the image is gone, with a snapshot's file.

        While the host that has the file is down, its state is RETRY, and it waits.
        """
        return self._ask("image.delete", {"image": image}, operation_id)

    def attach_volume(
        self,
        instance: str,
        volume: str | VolumeFields,
        *,
        wait_turn_s: int | None = None,
        operation_id: str | None = None,
    ) -> Handle[PowerView]:
        """The volume, named by its source, is the instance's: at once when it runs, and at each later start."""
        fields = {"instance": instance, "volume": volume, "wait_turn_s": wait_turn_s}
        return self._ask("instance.attach_volume", fields, operation_id)

    def detach_volume(
        self, instance: str, volume: str, *, wait_turn_s: int | None = None, operation_id: str | None = None
    ) -> Handle[InstanceView]:
        """The volume, named by source or serial, is the instance's no more. Refused when a running guest does not let go."""
        fields = {"instance": instance, "volume": volume, "wait_turn_s": wait_turn_s}
        return self._ask("instance.detach_volume", fields, operation_id)

    def attach_interface(
        self,
        instance: str,
        interface: str | NicFields,
        *,
        wait_turn_s: int | None = None,
        operation_id: str | None = None,
    ) -> Handle[InstanceView]:
        """A NIC more, on the network of that name, is the instance's: at once when it runs, and at each later start."""
        fields = {"instance": instance, "interface": interface, "wait_turn_s": wait_turn_s}
        return self._ask("instance.attach_interface", fields, operation_id)

    def detach_interface(
        self, instance: str, interface: str, *, wait_turn_s: int | None = None, operation_id: str | None = None
    ) -> Handle[InstanceView]:
        """The NIC of that MAC, address or port id is the instance's no more. Refused when a running guest does not let go."""
        fields = {"instance": instance, "interface": interface, "wait_turn_s": wait_turn_s}
        return self._ask("instance.detach_interface", fields, operation_id)

    def create_network(
        self, name: str, *, operation_id: str | None = None, **fields: Unpack[NetworkFields]
    ) -> Handle[CreatedNetworkView]:
        """A network that guests' NICs can be on. Fields as `taskvisor.model.network_spec.NetworkSpec` has them."""
        return self._ask("network.create", {"name": name, **fields}, operation_id)

    def delete_network(self, network: str, *, operation_id: str | None = None) -> Handle[DeletedRecordView]:
        """The network, by name or id, is gone. Refused while a port is on it."""
        return self._ask("network.delete", {"network": network}, operation_id)

    def create_security_group(
        self, name: str, rules: Sequence[RuleFields] = (), *, operation_id: str | None = None
    ) -> Handle[WrittenGroupView]:
        """A group of that name. Without rules it lets nothing pass but answers."""
        return self._ask("security_group.create", {"name": name, "rules": list(rules)}, operation_id)

    def update_security_group(
        self, group: str, rules: Sequence[RuleFields], *, operation_id: str | None = None
    ) -> Handle[WrittenGroupView]:
        """The group, by name or id, has these rules in place of those that it had; guests in it run on."""
        return self._ask("security_group.update", {"group": group, "rules": list(rules)}, operation_id)

    def delete_security_group(self, group: str, *, operation_id: str | None = None) -> Handle[DeletedRecordView]:
        """The group, by name or id, is gone. Refused while a port is in it, or a rule of another names it."""
        return self._ask("security_group.delete", {"group": group}, operation_id)

    def update_port(
        self,
        instance: str,
        security_groups: Sequence[str],
        *,
        port: str | None = None,
        wait_turn_s: int | None = None,
        operation_id: str | None = None,
    ) -> Handle[PowerView]:
        """The instance's port, named by address, MAC or id where it has several, is in these groups and no others."""
        fields = {
            "instance": instance,
            "security_groups": list(security_groups),
            "port": port,
            "wait_turn_s": wait_turn_s,
        }
        return self._ask("port.update", fields, operation_id)

    def create_flavor(
        self, name: str, *, operation_id: str | None = None, **fields: Unpack[NewFlavorFields]
    ) -> Handle[ChangedFlavorView]:
        """A size that guests can be built with by name. Fields as `taskvisor.model.flavor_spec.FlavorCreateSpec` has them."""
        return self._ask("flavor.create", {"name": name, **fields}, operation_id)

    def delete_flavor(self, flavor: str, *, operation_id: str | None = None) -> Handle[DeletedRecordView]:
        """The flavor, by name or id, is gone. Instances that were built with it keep it."""
        return self._ask("flavor.delete", {"flavor": flavor}, operation_id)

    def set_flavor(
        self, flavor: str, extra_specs: Mapping[str, str], *, operation_id: str | None = None
    ) -> Handle[ChangedFlavorView]:
        """The flavor has these extra specs besides its others, for guests that are built from now on."""
        return self._ask("flavor.set", {"flavor": flavor, "extra_specs": dict(extra_specs)}, operation_id)

    def unset_flavor(
        self, flavor: str, keys: Sequence[str], *, operation_id: str | None = None
    ) -> Handle[ChangedFlavorView]:
        """The flavor has no extra specs of these keys."""
        return self._ask("flavor.unset", {"flavor": flavor, "keys": list(keys)}, operation_id)

    def add_flavor_access(
        self, flavor: str, project: str, *, operation_id: str | None = None
    ) -> Handle[ChangedFlavorView]:
        """The project may have the private flavor."""
        return self._ask("flavor.add_access", {"flavor": flavor, "project": project}, operation_id)

    def remove_flavor_access(
        self, flavor: str, project: str, *, operation_id: str | None = None
    ) -> Handle[ChangedFlavorView]:
        """The project may have the private flavor no more; what it built with it stays."""
        return self._ask("flavor.remove_access", {"flavor": flavor, "project": project}, operation_id)

    def create_floating(self, address: str, *, operation_id: str | None = None) -> Handle[ChangedFloatingView]:
        """An outer address that ports can be given; it must be routed to the hosts."""
        return self._ask("floating.create", {"address": address}, operation_id)

    def bind_floating(
        self, floating: str, instance: str, *, port: str | None = None, operation_id: str | None = None
    ) -> Handle[ChangedFloatingView]:
        """The address is translated, one to one, to that of the instance's port, on a nat or routed network."""
        return self._ask("floating.bind", {"floating": floating, "instance": instance, "port": port}, operation_id)

    def release_floating(self, floating: str, *, operation_id: str | None = None) -> Handle[ChangedFloatingView]:
        """The address is no port's any more."""
        return self._ask("floating.release", {"floating": floating}, operation_id)

    def delete_floating(self, floating: str, *, operation_id: str | None = None) -> Handle[DeletedFloatingView]:
        """The address is not registered any more. Refused while it is bound."""
        return self._ask("floating.delete", {"floating": floating}, operation_id)

    def cancel(self, operation: str) -> Handle[WishView]:
        """Ask an operation to stop and roll back. The returned handle is of the wish, not of the operation."""
        return self._ask("operation.cancel", {"operation": operation}, None)

    def retry(self, operation: str) -> Handle[WishView]:
        """Let a stuck or kept operation go on, or one that was rolled back begin again. The returned handle is of the wish."""
        return self._ask("operation.retry", {"operation": operation}, None)

    def repair(
        self, code: str, subject: str, *, host: str | None = None, operation_id: str | None = None
    ) -> Handle[RepairView]:
        """Ask for one finding of `taskvisor verify` to be mended, where that is safe: looked at anew, then mended or left alone.

        Its caller is refused, with what to do by hand, where it is not.
        """
        return self._ask("fleet.repair", {"code": code, "subject": subject, "host": host}, operation_id)

    def keep_orphan(self, orphan: str, *, host: str | None = None, operation_id: str | None = None) -> Handle[KeptView]:
        """Ask for what is in quarantine under that name, or is of the instance of that id, to be left alone for good."""
        return self._ask("fleet.keep_orphan", {"orphan": orphan, "host": host}, operation_id)

    def look_at_host(self, host: str, *, expires_s: float) -> Handle[object]:
        """Ask a host what it has: its result is a `taskvisor.model.observed.HostSeen` as JSON. Changes nothing there.

        A host that does not take the request within `expires_s` never does.
        """
        return self._ask_host("host.verify", host, expires_s=expires_s)

    def report_of_host(self, host: str, *, expires_s: float) -> None:
        """Ask a host to report its resources to the store, as it does periodically."""
        self._ask_host("host.track", host, expires_s=expires_s)

    def tell_of_host(self, host: str, *, expires_s: float) -> Handle[object]:
        """Ask a host for all that it has of records: its result is a `taskvisor.model.holdings.HostHoldings` as JSON. Changes
        nothing there. A host that does not take the request within `expires_s` never does.
        """
        return self._ask_host("host.tell", host, expires_s=expires_s)

    def handle(self, operation_id: str) -> Handle[Any]:
        """The handle of an operation that was asked for before, by anyone."""
        return Handle(self._connections.opened().door.result(operation_id), self)

    def read_result(self, request_id: str) -> Mapping[str, Any]:
        """What Celery's back end has of a request now: `status` and `result`. `Handle.look` says it in our words. CannotAsk."""
        with self.asking(f"read the result of operation {request_id}"):
            return self._connections.opened().door.read(request_id)

    def read_operation(self, request_id: str) -> Operation | None:
        """The operation's record; None when there is none (yet, or any more). CannotAsk."""
        with self._records() as (client, keys):
            from taskvisor.model.ids import OperationId  # noqa: PLC0415 - as Celery: who only asks does not wait for it
            from taskvisor.state.catalog import Catalog  # noqa: PLC0415

            return Catalog(client, keys).read_operation(OperationId(request_id))

    def read_recorded_end(self, request_id: str) -> Outcome[Any] | None:
        """How the operation ended, by its record; None when that does not say. CannotAsk."""
        operation = self.read_operation(request_id)
        if operation is None:
            return None
        with self._records():
            from taskvisor.diagnosis import outcome_of  # noqa: PLC0415

            return outcome_of(operation)

    def why_it_waits(self, request_id: str) -> str:
        """Why a request may not go on by itself, and what to do; empty when nothing is known against it. CannotAsk."""
        with self._records() as (client, keys):
            from taskvisor.diagnosis import why_it_waits  # noqa: PLC0415

            return why_it_waits(client, keys, request_id)

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn the silence of Redis into CannotAsk: nobody may conclude from it that something did not happen.

        Unauthorised when it does not let us; Refused when it has no such database.
        """
        door = self._connections.opened().door
        from taskvisor.state.connection import asking, redis_error_behind  # noqa: PLC0415 - imported by now

        with asking(what):
            try:
                yield
            except door.silence as error:
                behind = redis_error_behind(error)
                if behind is not None:
                    raise behind from error
                why = str(error).rstrip(".")
                raise CannotAsk(f"Redis did not answer when asked to {what}: {why}; is it up and reachable?") from error

    def _ask(self, task: str, fields: Mapping[str, object], operation_id: str | None) -> Handle[Any]:
        given = {name: value for name, value in fields.items() if value is not None}
        operation_id = operation_id or str(uuid.uuid4())
        self._send(task, given, operation_id)
        return self.handle(operation_id)

    def _ask_host(self, task: str, host: str, *, expires_s: float) -> Handle[object]:
        request_id = str(uuid.uuid4())
        self._send(task, {}, request_id, queue=control_queue(host), expires_s=expires_s)
        return self.handle(request_id)

    def _send(
        self,
        task: str,
        fields: Mapping[str, object],
        request_id: str,
        *,
        queue: str = COMPUTE_QUEUE,
        expires_s: float | None = None,
    ) -> None:
        where = "" if queue == COMPUTE_QUEUE else f" to {queue}"
        what = f"take the request {task} ({request_id}){where}"
        self._require_fit(what)
        with self.asking(what):
            self._connections.opened().door.send(task, dict(fields), request_id, queue=queue, expires_s=expires_s)

    def _require_fit(self, what: str) -> None:
        try:
            self._connections.require_fit()
        except Unauthorised:
            raise
        except CannotAsk as silence:
            why = f"Redis did not answer when asked to {what}, and nothing was sent: {silence.__cause__}"
            raise CannotAsk(f"{why.rstrip('.')}; is it up and reachable?") from silence

    @contextmanager
    def _records(self) -> Iterator[tuple[Any, Keys]]:
        """What a reader of records is made of: the store's connection, whose type is the store's business, and its keys.

        No fork happens in the block, so that what readers are made of is imported there.
        """
        with GATE.pass_through():
            from taskvisor.state.keys import Keys  # noqa: PLC0415

            yield self._connections.opened().records, Keys(self._key_prefix)


def _configured() -> tuple[str, str]:
    """URL and prefix of the settings."""
    with GATE.pass_through():
        from taskvisor.settings import read_settings  # noqa: PLC0415 - pydantic, which a client with a URL does not need

        settings = read_settings()
    return settings.redis_url, settings.key_prefix
