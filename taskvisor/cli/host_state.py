"""What is so of a host, in a few words. Pure."""

from taskvisor.model.records import Host


def host_state_text(host: Host) -> str:
    """In the order of what counts most. One that speaks though it was called dead is said to."""
    if host.forced_down is not None:
        speaks = " (and yet it speaks)" if host.up else ""
        return f"down, forced{speaks}: {host.forced_down.reason}"
    if host.disabled_reason is not None:
        words = host.disabled_reason if host.draining is not None else f"disabled: {host.disabled_reason}"
        return words if host.up else f"down, {words}"
    if not host.up:
        return "down"
    return "takes nothing" if host.inventory and host.inventory.problems else "up"
