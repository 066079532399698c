"""The part of the Python client that is about what guests are made from: images and flavors."""

from __future__ import annotations  # as in `taskvisor`

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from taskvisor.client.asks import Asks

if TYPE_CHECKING:
    from taskvisor.client.handle import Handle
    from taskvisor.fields import ChangedFlavorView, DeletedImageView, DeletedRecordView, NewFlavorFields, RegisteredView


class ImageRequests(Asks):
    """Mixed into `Taskvisor`, whose rules hold here: the same id is the same request."""

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
