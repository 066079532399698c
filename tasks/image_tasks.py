"""The part of the edge that is about images: which requests there are, and what a host is asked to do about a file.

Knows of Celery only how a task is registered and sent; what is done is `image_requests` and `image_removal`.
"""

from collections.abc import Callable, Mapping

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from tasks.door import Door
from tasks.image_removal import ImageRemoval, RemovalSweep
from tasks.image_requests import ImageDoor
from tasks.node import Asking, Node
from tasks.telling import Teller
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import ImageId
from taskvisor.model.queues import control_queue
from taskvisor.model.records import Image

log = structlog.get_logger(__name__)

REMOVAL = "host.remove_image"
REMOVAL_LIMIT_S = 300
"""A large file on a slow disk is removed well within it; one that hangs must not keep the control node."""
GRACE_S = 15


class ImageTasks:
    """The tasks that are about images, of one app."""

    def __init__(self, app: Celery, node: Callable[[], Node], teller: Teller) -> None:
        self._app = app
        self._node = node
        self._teller = teller

    @property
    def requests(self) -> Mapping[str, Asking]:
        """What is asked of no host, by the task's name."""
        return {
            "image.register": lambda door, request_id, fields: self._door(door).register(request_id, fields),
            "image.delete": lambda door, request_id, fields: self._door(door).delete(request_id, fields),
        }

    def register(self) -> None:
        """What a host is asked."""

        def remove_image(image: str, id: str) -> None:  # noqa: A002 - as it stands in the message
            """Remove the file of an image that is being deleted; then the image is gone."""
            report = self._node().report
            removal = ImageRemoval(store=report.store, disks=report.disks, host=report.host, answers=self._teller)
            removal.remove(image, ImageId(id))

        self._app.task(
            remove_image,
            name=REMOVAL,
            shared=False,
            ignore_result=True,
            throws=(TaskvisorError,),
            soft_time_limit=REMOVAL_LIMIT_S,
            time_limit=REMOVAL_LIMIT_S + GRACE_S,
        )

    def send_removal(self, image: Image) -> None:
        """Ask the host of the image's file to remove it. What could not be sent is the sweep's."""
        assert image.host is not None  # noqa: S101 - of another image there is no file to remove
        queue = control_queue(image.host)
        try:
            self._app.send_task(REMOVAL, kwargs={"image": image.name, "id": image.id}, queue=queue, ignore_result=True)
        except (OperationalError, *self._app.connection_for_write().connection_errors) as silence:
            log.warning("image_removal_left_to_sweep", image=image.name, reason=str(silence))

    def sweep(self) -> None:
        """Ask again for what is still to go."""
        sweep = self._node().sweep
        RemovalSweep(store=sweep.store, send=self.send_removal, now=sweep.now, period_s=sweep.period_s).run()

    def _door(self, door: Door) -> ImageDoor:
        return ImageDoor(store=door.store, now=door.now, answers=self._teller)
