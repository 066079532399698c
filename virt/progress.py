"""How long work tells of itself. The same shape as the flow's own Progress, which virt may not import."""

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None: unknown), as often as the work likes; the callee throttles.

It may raise to stop the work: whatever it raises passes through, and the work is left as after a crash.
"""


def ignore_progress(done_bytes: int, total_bytes: int | None) -> None:
    """A Progress that nobody watches."""
