"""Ending the deletion of images whose file lies on one host: the host removes it, and then the image is forgotten.

The message to the host may be lost; the record is not, and the sweep asks again. Whatever dies in between, the record still
says what is to be done.

Invariant: a file is removed only when the image's record, read just then, says that it is to go, and names this host.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from tasks.image_requests import ImageAnswers, deleted_view, waiting_sentence
from tasks.store import Store
from taskvisor.flow.ports import Disks
from taskvisor.model.errors import Busy, Contradiction, Refused, Retryable, StoreConflict, TaskvisorError
from taskvisor.model.ids import HostName, ImageId
from taskvisor.model.records import Deletion, Image
from taskvisor.state.images import StoredImage

log = structlog.get_logger(__name__)

LOOKS_LIMIT = 10
"""The record moves under it when the sweep notes that it asks again, and no more often than that."""
DOUBLINGS_LIMIT = 6
"""The pause between two messages doubles so often: from one sweep period to 64."""

Send = Callable[[Image], None]
"""Asks the image's host to remove its file."""


@dataclass(frozen=True, kw_only=True)
class ImageRemoval:
    """What the host of an image's file does when it is asked to."""

    store: Store
    disks: Disks
    host: HostName
    answers: ImageAnswers

    def remove(self, name: str, image_id: ImageId) -> bool:
        """The file is gone, and the image forgotten. False: the record does not ask for that (any more), and nothing was done.

        Raises what the disks say when they refuse; it is in the record then, for people to see.
        """
        for _ in range(LOOKS_LIMIT):
            seen = self.store.images.read_name(name).stored
            deletion = self._deletion_of(seen, image_id)
            if seen is None or deletion is None:
                log.info("image_removal_dropped", image=name, image_id=image_id)
                return False
            self._remove_file(seen, deletion)
            try:
                self.store.images.forget(seen, self.answers.answer_for(deletion.request_id, deleted_view(seen.image)))
            except StoreConflict:
                continue
            log.info("image_deleted", image=name, image_id=image_id)
            return True
        raise Busy(
            f"image {name!r}: its record moved {LOOKS_LIMIT} times while its file was removed; the sweep asks again"
        )

    def _deletion_of(self, seen: StoredImage | None, image_id: ImageId) -> Deletion | None:
        if seen is None or seen.image.id != image_id or seen.image.host != self.host:
            return None
        return seen.image.deletion

    def _remove_file(self, seen: StoredImage, deletion: Deletion) -> None:
        try:
            self.disks.ensure_unpublished(seen.image.id)
        except (Retryable, Refused, Contradiction) as problem:
            self._note(seen, deletion, problem)
            raise

    def _note(self, seen: StoredImage, deletion: Deletion, problem: TaskvisorError) -> None:
        """People see why it is still there. A note that comes too late is dropped: the next try makes its own."""
        noted = replace(seen.image, deletion=replace(deletion, problem=str(problem)))
        waiting = self.answers.waiting_for(deletion.request_id, Busy(waiting_sentence(noted)))
        try:
            self.store.images.change(seen, noted, waiting)
        except StoreConflict:
            log.info("image_problem_not_noted", image=seen.image.name, reason=str(problem))


@dataclass(frozen=True, kw_only=True)
class RemovalSweep:
    """The guarantee behind the message: a living host whose image is still to go is asked again."""

    store: Store
    send: Send
    now: Callable[[], float]
    period_s: float

    def run(self) -> int:
        """Ask again where it is time to. Returns how many hosts' files were asked about.

        Every image is read for it: they are few, and an index of those to be deleted could be wrong.
        """
        due = [image for image in self.store.catalog.list_images() if self._is_due(image)]
        return sum(self._sent(image.name) for image in due)

    def _is_due(self, image: Image) -> bool:
        """Not while the host is silent: the message that waits in its queue will do."""
        if image.deletion is None or image.host is None:
            return False
        pause_s = self.period_s * (1 << min(image.deletion.sendings - 1, DOUBLINGS_LIMIT))
        if self.now() - image.deletion.sent_at < pause_s:
            return False
        return self.store.hosts.read_incarnation(image.host) is not None

    def _sent(self, name: str) -> bool:
        seen = self.store.images.read_name(name).stored
        if seen is None or seen.image.deletion is None or not self._is_due(seen.image):
            return False
        deletion = replace(seen.image.deletion, sent_at=self.now(), sendings=seen.image.deletion.sendings + 1)
        noted = replace(seen.image, deletion=deletion)
        try:
            self.store.images.change(seen, noted)
        except StoreConflict:
            return False  # it is gone, or another sweep was quicker
        self.send(noted)
        log.warning("image_removal_sent_again", image=name, host=noted.host, sendings=deletion.sendings)
        return True
