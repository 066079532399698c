"""The cache of a simulated host: files of this host are looked into, everything else is taken to exist.

`file://` must be there and be an image (a real one, or a simulated one). `simulated://name?virtual_gib=2`, and any URL of
a server or store, is an image of that size (1 GiB when it is not said) with no byte sent over a network: whoever tests
without KVM can keep the URLs of their real images. Must never know who uses an image.
"""

import hashlib
import os
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.image_url import OBJECT_STORES
from taskvisor.model.measured import EvictedImages
from taskvisor.model.plan import CachedImage
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from virt.progress import Progress
from virt.simulated.image_file import ImageFile, put_image_file, read_disk_file, read_image_file
from virt.simulated.world import Lock, Shelf

GIB = 1024**3
EVICT_AFTER_S = 24 * 3600.0
TAKEN_TO_EXIST = ("simulated", "http", "https", "glance", *OBJECT_STORES)


class SimulatedImageCache:
    """The port ImageCache, on small files below `root`."""

    def __init__(self, root: Path, *, evict_after_s: float = EVICT_AFTER_S) -> None:
        self._root = root
        self._evict_after_s = evict_after_s
        self._images = root / "cache"
        self._lock = Lock(root / "cache.lock")
        self._known = Shelf(root / "cache" / "known", CachedImage, self._lock)

    def ensure_cached(self, source: ImageSource, progress: Progress) -> CachedImage:
        """The image is in the cache: a marker with the sizes of the original and, for a file, its true SHA-256.

        Refused for a file that is not there, is not an image, has a backing or external data file, or differs from the
        declared format or checksum; for a URL of another scheme.
        """
        key = _key_for(source)
        known = self._known.read(key)
        if known is not None and _is_noted_as_used(Path(known.path)):
            return known
        image, sha256 = _examined(source)
        path = self._images / f"{sha256}.{image.format.value}"
        cached = CachedImage(
            path=str(path),
            sha256=sha256,
            format=image.format,
            size_bytes=image.size_bytes,
            virtual_bytes=image.virtual_bytes,
        )
        with self._lock.held():
            put_image_file(self._lock, path, image)
            self._known.put(key, cached)
        progress(image.size_bytes, image.size_bytes)
        return cached

    def list_cached(self) -> tuple[str, ...]:
        """The SHA-256 of each marker that is here. CannotAsk when they can't be read."""
        known = {cached.sha256: cached.path for _, cached in self._known.list_all()}
        return tuple(sorted(sha256 for sha256, path in known.items() if Path(path).exists()))

    def ensure_old_evicted(self) -> EvictedImages:
        """What nobody asked for in `evict_after_s`, and no simulated disk was made from, is gone."""
        with self._lock.held():
            stood_on = {_made_from(path) for part in ("instances", "pools") for path in (self._root / part).rglob("*")}
            doomed = [path for path in self._images.glob("*.*") if self._is_old(path) and str(path) not in stood_on]
            for path in doomed:
                path.unlink()
        return EvictedImages(images=len(doomed), freed_bytes=0)

    def _is_old(self, path: Path) -> bool:
        return path.is_file() and time.time() - path.stat().st_atime > self._evict_after_s


def _is_noted_as_used(path: Path) -> bool:
    """Whether it is there; if so, it was used now, which is its access time. What it is has not changed."""
    try:
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def _made_from(path: Path) -> str | None:
    """What a simulated disk was made from; None for what is none."""
    if not path.is_file():
        return None
    try:
        return read_disk_file(path).made_from
    except Refused:
        return None


def _key_for(source: ImageSource) -> str:
    """Differs whenever the answer might: also when a file was written anew under its old name."""
    path = _file_path(source.url)
    state = ""
    if path is not None:
        try:
            facts = os.stat(path)
        except OSError as error:
            raise _unreachable(path, error) from error
        state = f"{facts.st_ino}/{facts.st_size}/{facts.st_mtime_ns}"
    return hashlib.sha256(repr((source.url, source.sha256, source.format, state)).encode()).hexdigest()


def _unreachable(path: Path, error: OSError) -> Refused | CannotAsk:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Refused(f"there is no image {path} on this host; it was never there, or it has been deleted")
    return CannotAsk(f"cannot look at the image {path}: {error.strerror}")


def _examined(source: ImageSource) -> tuple[ImageFile, str]:
    path = _file_path(source.url)
    if path is None:
        image = _taken_to_exist(source)
        return image, source.sha256 or hashlib.sha256(source.url.encode()).hexdigest()
    image = read_image_file(path, declared=source.format)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if source.sha256 not in (None, sha256):
        raise Refused(f"the image {path} has the SHA-256 {sha256}, not {source.sha256}")
    return image, sha256


def _file_path(url: str) -> Path | None:
    """The file that a file:// URL names; None for an image that is taken to exist. Refused for other schemes."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme in TAKEN_TO_EXIST:
        return None
    raise Refused(f"the image {url} is neither file://, http://, https://, glance://, s3:// nor simulated://")


def _taken_to_exist(source: ImageSource) -> ImageFile:
    asked = parse_qs(urlsplit(source.url).query).get("virtual_gib", ["1"])[0]
    if not asked.isdecimal() or not 0 < int(asked) <= 65_536:
        raise Refused(f"the image {source.url} asks for virtual_gib={asked}; it must be 1 to 65536")
    virtual_bytes = int(asked) * GIB
    return ImageFile(
        made_from=source.url,
        virtual_bytes=virtual_bytes,
        size_bytes=virtual_bytes // 8,  # about what a compressed system image has
        format=source.format.kept_as if source.format else ImageFormat.QCOW2,
    )
