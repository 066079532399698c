"""The part of the Python client that is about one instance: its build, its end, and all between."""

from __future__ import annotations  # as in `taskvisor`

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from taskvisor.client.asks import Asks

if TYPE_CHECKING:
    from taskvisor.client.handle import Handle
    from taskvisor.fields import DeletedView, FlavorFields, NicFields, PowerView, SnapshotView, VolumeFields
    from taskvisor.model.view import InstanceView


class InstanceRequests(Asks):
    """Mixed into `Taskvisor`, whose rules hold here: the same id is the same request."""

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
