"""Requests about registered images: where an image comes from is put under a name, and taken away again.

No host is touched. A snapshot's image has a file on one host: a delete notes in the record that nobody builds from it any more,
and `image_removal` does the rest.

Invariant: what a caller is told is written together with the record that it is about. A request that comes twice finds its
answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tasks.door import Already
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.model.errors import Busy, Refused, TaskvisorError
from taskvisor.model.ids import OperationId, image_id_for
from taskvisor.model.image_url import image_url_for
from taskvisor.model.records import Deletion, Image, ImageSource
from taskvisor.model.spec import ImageRefSpec, ImageSpec, parse_spec
from taskvisor.model.urls import shown_url
from taskvisor.model.view import image_view
from taskvisor.state.images import StoredImage
from taskvisor.state.writing import Outcome
from virt.options import require_image_properties

GOING_LOOK_S = 2.0
"""Who asks for a delete that is under way already looks again so often."""


class ImageAnswers(Answers, Protocol):
    """How it also writes that the caller is to wait."""

    def waiting_for(self, request_id: OperationId, reason: TaskvisorError) -> Outcome: ...


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The caller's result is written, or whoever ends it writes it. `removing`: whose file its host is to be asked to remove."""

    removing: Image | None = None


@dataclass(frozen=True, kw_only=True)
class ImageDoor:
    """Lets requests about images into one store."""

    store: Store
    now: Callable[[], float]
    answers: ImageAnswers

    def register(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The image is registered. The same again, under any id, is the same image; Refused for another of that name.

        Refused names field, value and rule. Whether the source is there is not asked: hosts see other files and servers.
        """
        require_usable_id(self.store, request_id)
        asked = self._image_for(parse_spec(ImageSpec, fields), request_id)

        def look() -> Already | Answered:
            name = self.store.images.read_name(asked.name)
            if name.stored is not None:
                return _again(name.stored.image, asked)
            if name.owner is not None:
                raise Refused(_kept_for(asked.name, name.owner))
            self.store.images.register(asked, self.answers.answer_for(request_id, image_view(asked)))
            return Answered()

        return looking_again(f"image {asked.name}", look)

    def delete(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """Nobody builds from the image any more; it is gone, or goes as soon as the host of its file takes it away.

        Busy while another request has it deleted. Copies in hosts' caches stay until they are evicted.
        """
        require_usable_id(self.store, request_id)
        wanted = parse_spec(ImageRefSpec, fields).image

        def look() -> Already | Answered:
            name = self.store.catalog.find_image_name(wanted)
            found = self.store.images.read_name(name)
            if found.stored is not None:
                return self._delete(found.stored, request_id)
            if found.owner is not None:
                raise Refused(_kept_for(name, found.owner))
            return Already(result={"id": wanted, "name": wanted, "state": "deleted", "already": True})

        return looking_again(f"image {wanted}", look)

    def _delete(self, seen: StoredImage, request_id: OperationId) -> Answered:
        image = seen.image
        if image.deletion is not None:
            if image.deletion.request_id == request_id:
                return Answered(removing=image)
            raise Busy(waiting_sentence(image), delay_s=GOING_LOOK_S)
        if image.host is None:
            self.store.images.forget(seen, self.answers.answer_for(request_id, deleted_view(image)))
            return Answered()
        going = replace(image, deletion=self._deletion(request_id))
        waiting = Busy(waiting_sentence(going))
        self.store.images.change(seen, going, self.answers.waiting_for(request_id, waiting))
        return Answered(removing=going)

    def _deletion(self, request_id: OperationId) -> Deletion:
        now = self.now()
        return Deletion(request_id=request_id, asked_at=now, sent_at=now)

    def _image_for(self, spec: ImageSpec, request_id: OperationId) -> Image:
        url = image_url_for(spec.source, field="source")
        if url is None:
            raise Refused(
                f"source: {spec.source!r}: must be an absolute path or a URL; a name stands for an image already"
            )
        try:
            require_image_properties(spec.properties)
        except Refused as refused:
            raise Refused(f"properties: {refused}") from refused
        return Image(
            id=image_id_for(request_id),
            name=spec.name,
            source=ImageSource(url=url, sha256=spec.sha256, format=spec.format),
            size_bytes=0,
            virtual_bytes=0,
            created_at=self.now(),
            min_disk_gib=spec.min_disk_gib,
            min_memory_mib=spec.min_memory_mib,
            properties=spec.properties,
        )


def deleted_view(image: Image) -> Mapping[str, Any]:
    """What the caller of a delete gets in the end."""
    return {"id": image.id, "name": image.name, "state": "deleted"}


def waiting_sentence(image: Image) -> str:
    """What the callers of a delete see until the file is gone."""
    problem = f", which could not yet: {image.deletion.problem}" if image.deletion and image.deletion.problem else ""
    return (
        f"image {image.name!r} is being deleted: nobody builds from it any more, and its file goes when host {image.host}"
        f" removes it{problem}; see `taskvisor hosts` whether that is up"
    )


def _again(there: Image, asked: Image) -> Already:
    """The answer to who registers what is there. Refused when it is something else."""
    if there.deletion is not None:
        raise Refused(
            f"name: {there.name!r} is the name of an image that is being deleted, until host {there.host} has removed its"
            " file; choose another, or wait"
        )
    differing = [name for name, value in _content_of(there).items() if value != _content_of(asked)[name]]
    if differing:
        raise Refused(
            f"name: {there.name!r} is the name of another image (of {shown_url(there.source.url)}; it differs in"
            f" {', '.join(differing)}); choose another, or delete that one first"
        )
    view = dict(image_view(there))
    return Already(result=view if there.id == asked.id else {**view, "already": True})


def _content_of(image: Image) -> dict[str, object]:
    """What makes it the image that it is, by the names of the request's fields."""
    return {
        "source": image.source.url,
        "sha256": image.source.sha256,
        "format": image.source.format,
        "min_disk_gib": image.min_disk_gib,
        "min_memory_mib": image.min_memory_mib,
        "properties": dict(image.properties),
    }


def _kept_for(name: str, owner: str) -> str:
    return f"name: {name!r} is kept for the snapshot that operation {owner} takes; choose another, or cancel that one"
