"""The part of the Python client that reads records: images, flavors, histories. It asks nobody for anything."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskvisor.model.flavor_record import FlavorView
    from taskvisor.model.history import MoveView
    from taskvisor.model.view import ImageView
    from taskvisor.state.keys import Keys


class RecordReads(ABC):
    """Mixed into `Taskvisor`. What a record is made of is imported when one is read, inside `_records`."""

    def list_images(self) -> "tuple[ImageView, ...]":
        """Every registered image, by name, read from the records. CannotAsk when Redis does not answer."""
        with self._records() as (client, keys):
            from taskvisor.model.view import image_view  # noqa: PLC0415
            from taskvisor.state.catalog import Catalog  # noqa: PLC0415

            return tuple(map(image_view, Catalog(client, keys).list_images()))

    def read_image(self, image: str) -> "ImageView | None":
        """The registered image of that name or id; None when there is none. CannotAsk when Redis does not answer."""
        with self._records() as (client, keys):
            from taskvisor.model.view import image_view  # noqa: PLC0415
            from taskvisor.state.catalog import Catalog  # noqa: PLC0415

            found = Catalog(client, keys).find_image(image)
        return None if found is None else image_view(found)

    def list_flavors(self, project: str | None = None) -> "tuple[FlavorView, ...]":
        """Every flavor, or those that the project may have, by name, read from the records. CannotAsk when Redis is silent."""
        with self._records() as (client, keys):
            from taskvisor.model.flavor_record import flavor_view  # noqa: PLC0415
            from taskvisor.state.flavors import Flavors  # noqa: PLC0415

            found = Flavors(client, keys).list()
        return tuple(flavor_view(record) for record in found if project is None or record.is_for(project))

    def read_flavor(self, flavor: str) -> "FlavorView | None":
        """The flavor of that name or id; None when there is none. CannotAsk when Redis does not answer."""
        with self._records() as (client, keys):
            from taskvisor.model.flavor_record import flavor_view  # noqa: PLC0415
            from taskvisor.state.flavors import Flavors  # noqa: PLC0415

            found = Flavors(client, keys).look_up(flavor)
        return None if found is None else flavor_view(found)

    def read_history(self, instance: str) -> "tuple[MoveView, ...]":
        """The last moves of the instance's states, newest first: when, by whom and why; none when there is no such instance.

        `instance` is a name or an id. CannotAsk when Redis does not answer.
        """
        with self._records() as (client, keys):
            from taskvisor.model.history import move_view  # noqa: PLC0415
            from taskvisor.state.catalog import Catalog  # noqa: PLC0415
            from taskvisor.state.history import Histories  # noqa: PLC0415

            moves = Histories(client, keys).read(Catalog(client, keys).find_instance_id(instance))
        return tuple(map(move_view, moves))

    @abstractmethod
    def _records(self) -> "AbstractContextManager[tuple[Any, Keys]]":
        """What a reader of records is made of: the store's connection and its keys. CannotAsk when a read in it fails."""
