"""An image given by path or URL, and which places there are that one can be read from. Asks none of them."""

import re
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from taskvisor.model.errors import Refused

UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")

OBJECT_STORES = frozenset({"abfs", "abfss", "az", "gcs", "gs", "oci", "oss", "s3", "s3a"})
"""URL schemes that fsspec knows of stores that keep objects in buckets: such a URL names no server and no file of a host."""


def image_url_for(image: str, *, field: str = "image") -> str | None:
    """The URL of an image given by path or URL; None when it is a registered image's name. Refused for other schemes.

    `field` is what it was asked in, for what is said when it is wrong.
    """
    if image.startswith("/"):
        if not _stays_below(image):
            raise Refused(f"{field}: {image!r}: must be an absolute path without '..'")
        return "file://" + quote(image)
    if "://" not in image:
        return None
    if UNPRINTABLE.search(image):
        raise Refused(f"{field}: {image!r}: must not hold spaces or control characters; write them as %20 and the like")
    try:
        url = urlsplit(image)
    except ValueError as error:
        raise Refused(f"{field}: {image!r}: is no URL: {error}") from error
    if url.scheme not in ("file", "http", "https", "glance", "simulated", *OBJECT_STORES):
        raise Refused(
            f"{field}: {image!r}: scheme {url.scheme!r} is not known; use a path, file://, http://, https://, glance:// or s3://"
        )
    if url.scheme == "file" and (url.netloc not in ("", "localhost") or not _stays_below(unquote(url.path))):
        raise Refused(f"{field}: {image!r}: must name a file of the host, as file:///path, without '..'")
    if url.scheme in ("http", "https") and not url.hostname:
        raise Refused(f"{field}: {image!r}: names no server")
    if url.scheme in OBJECT_STORES and not (url.netloc and url.path.strip("/")):
        raise Refused(f"{field}: {image!r}: must name a bucket and an object, as {url.scheme}://bucket/path")
    return image


def _stays_below(path: str) -> bool:
    return ".." not in PurePosixPath(path).parts and "\0" not in path
