"""Whether the image need not be fetched first."""

from taskvisor.compute.placement.ask import Ask, Gauge


def image_cached(ask: Ask) -> Gauge | None:
    """1 where the image is in the host's cache. An image of which no SHA-256 is known is looked for nowhere."""
    sha256 = ask.image_sha256
    if sha256 is None:
        return None
    return lambda host: 1.0 if host.inventory and sha256 in host.inventory.cached_images else 0.0
