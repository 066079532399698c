"""The Python client: asks for operations by task name, and watches them. Any Celery app can do the same with `send_task`.

It imports no task, and neither libvirt nor anything else a worker needs; Celery itself is imported at first use. Its Celery
app is its own: it never becomes the current or the default app, so it works inside a process (or a task) of another app,
and CELERY_BROKER_URL and its kin, which override what an app is configured with, do not lead it astray.

    with Taskvisor("redis://127.0.0.1:6379/0") as taskvisor:
        handle = taskvisor.build(name="web-1", image="/srv/images/debian-12.qcow2", flavor="c2-m2048-d10")
        print(handle.wait(600)["addresses"])
"""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Unpack

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
from taskvisor.fleet_client import FleetRequests
from taskvisor.handle import Handle
from taskvisor.host_client import HostRequests
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.flavor_record import FlavorView, flavor_view
from taskvisor.model.history import MoveView, move_view
from taskvisor.model.urls import celery_url_for
from taskvisor.model.view import ImageView, InstanceView, image_view
from taskvisor.sending import Door

if TYPE_CHECKING:
    from taskvisor.state.catalog import Catalog
    from taskvisor.state.keys import Keys

DEFAULT_KEY_PREFIX = "taskvisor:"
CELERY_SCHEMES = ("redis://", "rediss://", "redis+socket://")


class Taskvisor(FleetRequests, HostRequests):
    """Asks for operations. Safe in threads; after a fork it opens its connections anew. Close it, or use it with `with`.

    `redis_url` is redis://, rediss://, unix:///path?db=0 or Celery's redis+socket:///path?virtual_host=0; without one, that
    of TASKVISOR_REDIS_URL, else of the settings' default. Refused for another kind of URL. Nothing is asked of Redis before
    the first request.

    Every request returns once it is in the queue, which takes at most about twice `timeout_s`; CannotAsk when Redis did
    not take it, and then it may be there all the same: ask again with the same `operation_id`. The same id is the same
    operation, however often it is asked.
    """

    def __init__(
        self, redis_url: str | None = None, *, timeout_s: float = 5.0, key_prefix: str = DEFAULT_KEY_PREFIX
    ) -> None:
        """`key_prefix`: TASKVISOR_KEY_PREFIX of the workers, by which records are read."""
        self._key_prefix = key_prefix
        self._url = celery_url_for(redis_url or _default_url())
        if not self._url.startswith(CELERY_SCHEMES):
            raise Refused(f"Redis URL {redis_url!r}: use redis://HOST:PORT/DB, rediss://… or unix:///PATH?db=DB")
        self._timeout_s = timeout_s
        self._door: Door | None = None

    def __enter__(self) -> "Taskvisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The connections are closed. A later request opens new ones."""
        door, self._door = self._door, None
        if door is not None:
            door.close()

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

    def list_images(self) -> tuple[ImageView, ...]:
        """Every registered image, by name, read from the records. CannotAsk when Redis does not answer."""
        with self._catalog() as catalog:
            return tuple(map(image_view, catalog.list_images()))

    def read_image(self, image: str) -> ImageView | None:
        """The registered image of that name or id; None when there is none. CannotAsk when Redis does not answer."""
        with self._catalog() as catalog:
            found = catalog.find_image(image)
            return None if found is None else image_view(found)

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

    def list_flavors(self, project: str | None = None) -> tuple[FlavorView, ...]:
        """Every flavor, or those that the project may have, by name, read from the records. CannotAsk when Redis is silent."""
        from taskvisor.state.flavors import Flavors  # noqa: PLC0415 - as in `_records`

        with self._records() as (client, keys):
            found = Flavors(client, keys).list()
        return tuple(flavor_view(record) for record in found if project is None or record.is_for(project))

    def read_flavor(self, flavor: str) -> FlavorView | None:
        """The flavor of that name or id; None when there is none. CannotAsk when Redis does not answer."""
        from taskvisor.state.flavors import Flavors  # noqa: PLC0415 - as in `_records`

        with self._records() as (client, keys):
            found = Flavors(client, keys).look_up(flavor)
        return None if found is None else flavor_view(found)

    def read_history(self, instance: str) -> tuple[MoveView, ...]:
        """The last moves of the instance's states, newest first: when, by whom and why; none when there is no such instance.

        `instance` is a name or an id. CannotAsk when Redis does not answer.
        """
        from taskvisor.state.catalog import Catalog  # noqa: PLC0415 - as in `_records`
        from taskvisor.state.history import Histories  # noqa: PLC0415

        with self._records() as (client, keys):
            moves = Histories(client, keys).read(Catalog(client, keys).find_instance_id(instance))
        return tuple(map(move_view, moves))

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
        request_id = str(uuid.uuid4())
        with self.asking(f"take the request host.verify to {host}"):
            self._opened().send("host.verify", {}, request_id, queue=f"host.{host}.control", expires_s=expires_s)
        return self.handle(request_id)

    def report_of_host(self, host: str, *, expires_s: float) -> None:
        """Ask a host to report its resources to the store, as it does periodically."""
        with self.asking(f"take the request host.track to {host}"):
            queue = f"host.{host}.control"
            self._opened().send("host.track", {}, str(uuid.uuid4()), queue=queue, expires_s=expires_s)

    def tell_of_host(self, host: str, *, expires_s: float) -> Handle[object]:
        """Ask a host for all that it has of records: its result is a `taskvisor.model.holdings.HostHoldings` as JSON. Changes
        nothing there. A host that does not take the request within `expires_s` never does.
        """
        request_id = str(uuid.uuid4())
        with self.asking(f"take the request host.tell to {host}"):
            self._opened().send("host.tell", {}, request_id, queue=f"host.{host}.control", expires_s=expires_s)
        return self.handle(request_id)

    def handle(self, operation_id: str) -> Handle[Any]:
        """The handle of an operation that was asked for before, by anyone."""
        return Handle(self._opened().result(operation_id), self)

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn the silence of Redis into CannotAsk: nobody may conclude from it that something did not happen."""
        try:
            yield
        except self._opened().silence as error:
            why = str(error).rstrip(".")
            raise CannotAsk(f"Redis did not answer when asked to {what}: {why}; is it up and reachable?") from error

    def _ask(self, task: str, fields: Mapping[str, object], operation_id: str | None) -> Handle[Any]:
        given = {name: value for name, value in fields.items() if value is not None}
        operation_id = operation_id or str(uuid.uuid4())
        with self.asking(f"take the request {task} ({operation_id})"):
            self._opened().send(task, given, operation_id)
        return self.handle(operation_id)

    @contextmanager
    def _catalog(self) -> Iterator["Catalog"]:
        from taskvisor.state.catalog import Catalog  # noqa: PLC0415 - as in `_records`

        with self._records() as (client, keys):
            yield Catalog(client, keys)

    @contextmanager
    def _records(self) -> Iterator[tuple[Any, "Keys"]]:
        """What a reader of records is made of: the store's connection, whose type is the store's business, and its keys."""
        from taskvisor.state.connection import open_redis  # noqa: PLC0415 - as Celery: who only asks does not wait for it
        from taskvisor.state.keys import Keys  # noqa: PLC0415

        client = open_redis(self._url, timeout_s=self._timeout_s)
        try:
            yield client, Keys(self._key_prefix)
        finally:
            client.close()

    def _opened(self) -> Door:
        if self._door is None or self._door.pid != os.getpid():
            self._door = Door(self._url, self._timeout_s)
        return self._door


def _default_url() -> str:
    from taskvisor.settings import read_settings  # noqa: PLC0415 - pydantic, which a client with a URL does not need

    return read_settings().redis_url
