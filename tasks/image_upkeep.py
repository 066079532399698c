"""What a host does for its image cache unasked: old images go, and those that builds will ask for are there before."""

from dataclasses import dataclass

import structlog

from taskvisor.flow.ports import Disks, ImageCache
from taskvisor.model.errors import Busy, CannotAsk, TaskvisorError
from taskvisor.model.ids import HostName
from taskvisor.model.records import Instance
from taskvisor.model.states import VmState
from taskvisor.model.tick import Counts
from taskvisor.state.catalog import Catalog

log = structlog.get_logger(__name__)

CLEAN_IMAGE_CACHE, PREWARM_IMAGES = "host.clean_image_cache", "host.prewarm_images"


@dataclass(frozen=True, kw_only=True)
class ImageUpkeep:
    """One host's. `names` are the registered images that it is to have."""

    catalog: Catalog
    host: HostName
    images: ImageCache
    disks: Disks
    names: tuple[str, ...]

    def clean(self) -> Counts:
        """What the cache may forget by its age is gone. CannotAsk when the disks can't be asked what stands on it, or those of an
        instance that has run here are not to be seen: a file system may not be mounted.
        """
        self._require_disks()
        evicted = self.images.ensure_old_evicted()
        return {"images": evicted.images, "freed_mib": evicted.freed_bytes >> 20}

    def prewarm(self) -> Counts:
        """Each named image is in the cache, one after the other. What can't be had hinders no other: it is logged and counted."""
        outcomes = [self._prewarmed(name) for name in self.names]
        return {outcome: outcomes.count(outcome) for outcome in set(outcomes)}

    def _require_disks(self) -> None:
        seen = frozenset(self.disks.list_directories())
        unseen = [one.name for one in self.catalog.list_instances(self.host) if _has_disks(one) and one.id not in seen]
        if unseen:
            raise CannotAsk(
                f"{len(unseen)} instances have no directory here, {min(unseen)} for one: what their disks stand on is not known,"
                " so no image goes; is a file system not mounted?"
            )

    def _prewarmed(self, name: str) -> str:
        """A word for what came of it."""
        image = self.catalog.read_image(name)
        if image is None:
            log.warning("prewarm_image_unknown", image=name)
            return "unknown"
        if image.deletion is not None or image.host is not None:
            return (
                "left_out"  # a snapshot's file lies on one host, which needs no second copy of it; others can't have it
            )
        try:
            self.images.ensure_cached(image.source, lambda *_: None)
        except Busy:
            return "being_fetched"  # by a build, for one
        except CannotAsk:
            raise
        except TaskvisorError as problem:
            log.warning("image_not_prewarmed", image=name, reason=str(problem))
            return "failed"
        return "there"


def _has_disks(instance: Instance) -> bool:
    """It has run, and is not being built or taken away."""
    at_rest = instance.task_state is None and instance.launched_at is not None
    return at_rest and instance.vm_state not in (VmState.BUILDING, VmState.ERROR, VmState.DELETED)
