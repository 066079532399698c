"""glance://<image id>, or glance://<cloud>/<image id>: an image of an OpenStack cloud. Knows nothing of caches.

openstacksdk is an extra (`pip install taskvisor[glance]`). Where the cloud is and who we are there is for it to find, as
its own page says: clouds.yaml, or OS_* in the environment. `<cloud>` is a name in clouds.yaml.

Glance knows of what format an image was declared when it was uploaded. That is passed on as declared, so an image that
is something else is refused: to believe a declaration that nobody checked was CVE-2024-40767.

Source: https://docs.openstack.org/api-ref/image/v2/
"""

import contextlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from types import ModuleType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from taskvisor.model.errors import DoesNotFit, Refused, Retryable
from taskvisor.model.states import ImageFormat
from virt.images.source import (
    CHUNK_BYTES,
    RETRY_DELAY_S,
    Opened,
    ResumePoint,
    SourceIdentity,
    resume_offset_for,
    shown_url,
)

if TYPE_CHECKING:
    from openstack.connection import Connection
    from openstack.image.v2.image import Image
    from requests import Response

CALL_TIME_LIMIT_S: Final = 30.0
"""Of one answer, and of silence while the image comes."""

_IMAGE_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_COMES_LATER = frozenset({"queued", "saving", "uploading", "importing"})
_FORMATS = {kind.value: kind for kind in ImageFormat}


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What a glance:// URL says."""

    cloud: str | None
    image_id: str


@contextlib.contextmanager
def open_glance(url: str, known: SourceIdentity | None, resume: ResumePoint | None) -> Iterator[Opened | None]:
    """The image, opened; None when it is still `known`.

    Refused for an image that is not there, is not to be read, or is no single disk; DoesNotFit when this host has no
    openstacksdk; Retryable when the cloud does not answer or the image is still being uploaded.
    """
    place = _place_for(url)
    with _cloud_errors(url) as openstack, contextlib.closing(_connected(openstack, place)) as cloud:
        image = cloud.image.get_image(place.image_id)
        _check_usable(image, url)
        identity = SourceIdentity(size_bytes=image.size, validator=image.hash_value or image.checksum)
        if known is not None and identity.is_same(known):
            yield None
            return
        response = _requested(cloud, place, resume_offset_for(identity, resume))
        with contextlib.closing(response):
            yield Opened(
                identity=identity,
                offset=resume_offset_for(identity, resume) if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0,
                chunks=_chunks(response, url),
                confirm=_confirm,
                declared=_FORMATS.get(image.disk_format),
            )


def _place_for(url: str) -> _Place:
    parts = urlsplit(url)
    path = parts.path.strip("/")
    cloud, image_id = (parts.netloc, path) if path else (None, parts.netloc)
    if not _IMAGE_ID.fullmatch(image_id) or parts.query or parts.fragment or "@" in parts.netloc:
        raise Refused(f"{shown_url(url)} names no image: write glance://<image id>, or glance://<cloud>/<image id>")
    return _Place(cloud=cloud, image_id=image_id.lower())


def _connected(openstack: ModuleType, place: _Place) -> "Connection":
    connection: Connection = openstack.connect(cloud=place.cloud, app_name="taskvisor", api_timeout=CALL_TIME_LIMIT_S)
    return connection


def _check_usable(image: "Image", url: str) -> None:
    """An image's bytes never change once it is active; before that there are none."""
    if image.status in _COMES_LATER:
        raise Retryable(f"{shown_url(url)} is {image.status}; it is asked for again", delay_s=RETRY_DELAY_S)
    if image.status != "active":
        raise Refused(f"{shown_url(url)} is {image.status}, so it cannot be read; use an active image")
    if image.container_format != "bare":
        raise Refused(
            f"{shown_url(url)} is a {image.container_format} container, and only bare disk images are taken; unpack it first"
        )
    if image.disk_format not in _FORMATS:
        raise Refused(f"{shown_url(url)} was uploaded as {image.disk_format}; use one of {', '.join(sorted(_FORMATS))}")


def _requested(cloud: "Connection", place: _Place, offset: int) -> "Response":
    """The answer that bears the image from `offset`, or all of it: Glance leaves that to the back end it has."""
    headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    response: Response = cloud.image.get(f"/images/{place.image_id}/file", headers=headers, stream=True)
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _requested(cloud, place, 0)
    response.raise_for_status()
    return response


def _chunks(response: "Response", url: str) -> Iterator[bytes]:
    chunks = response.iter_content(CHUNK_BYTES)
    while True:
        with _cloud_errors(url):
            chunk = next(chunks, b"")
        if not chunk:
            return
        yield chunk


def _confirm() -> None:
    """One answer is of one content, and the content of an active image does not change."""


@contextlib.contextmanager
def _cloud_errors(url: str) -> Iterator[ModuleType]:
    """Enter with openstacksdk."""
    shown = shown_url(url)
    openstack, keystone, requests = (_imported(name) for name in ("openstack", "keystoneauth1.exceptions", "requests"))
    try:
        yield openstack
    except (openstack.exceptions.NotFoundException, openstack.exceptions.ForbiddenException) as error:
        raise Refused(f"{shown} is not there, or not for us to read; check its id, and who we are there") from error
    except openstack.exceptions.ConfigException as error:
        raise DoesNotFit(f"this host knows no such cloud, so {shown} cannot be fetched: {error}") from error
    except (
        openstack.exceptions.SDKException,
        keystone.ClientException,
        requests.exceptions.RequestException,
    ) as error:
        if isinstance(error, keystone.Unauthorized) or getattr(error, "status_code", None) == HTTPStatus.UNAUTHORIZED:
            raise DoesNotFit(f"the cloud of {shown} does not take this host's credentials; see clouds.yaml") from error
        raise Retryable(f"{shown} cannot be read now: {error}", delay_s=RETRY_DELAY_S) from error


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DoesNotFit(
            f"this host has no {name}, which reads glance://; install taskvisor[glance], or build elsewhere"
        ) from error
