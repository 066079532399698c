"""`python -m tests.start.dying_node POINT WORDS…`: a node, as of `python -m workers`, killed at a point of its start.

POINT is one of POINTS, with `before-` or `after-` in front: the call that it dies at, as by a power cut, the first time.
"""

import importlib
import os
import signal
import sys
from typing import Any

POINTS = {
    "lock": ("workers.host", "HostNode.take_identity"),
    "store": ("workers.host", "HostNode.check_store"),
    "file": ("workers.identity", "create_identity"),
    "record": ("taskvisor.state.identities", "Identities.register"),
    "file-registered": ("workers.identity", "replace_identity"),
    "init-host": ("workers.host", "HostNode.init_host"),
    "pre-start": ("workers.host", "HostNode.pre_start_hook"),
    "post-start": ("workers.host", "HostNode.post_start_hook"),
    "heartbeat": ("taskvisor.state.hosts", "Hosts.note_alive"),
}


def die_at(point: str) -> None:
    """The process gets SIGKILL before or after that call."""
    moment, _, name = point.partition("-")
    module, path = POINTS[name]
    holder: Any = importlib.import_module(module)
    *owners, verb = path.split(".")
    for owner in owners:
        holder = getattr(holder, owner)
    real = getattr(holder, verb)

    def dying(*args: Any, **named: Any) -> Any:
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(holder, verb, dying)


if __name__ == "__main__":
    wanted = sys.argv.pop(1)
    from workers.__main__ import main  # the app must be there before it is changed

    die_at(wanted)
    main()
