"""The Python client: asks for operations by task name, and watches them. Any Celery app can do the same with `send_task`.

It imports no task, and neither libvirt nor anything else a worker needs; Celery itself is imported at first use. Its Celery
app is its own: it never becomes the current or the default app, so it works inside a process (or a task) of another app,
and CELERY_BROKER_URL and its kin, which override what an app is configured with, do not lead it astray.

    with Taskvisor("redis://127.0.0.1:6379/0") as taskvisor:
        handle = taskvisor.build(name="web-1", image="/srv/images/debian-12.qcow2", flavor="c2-m2048-d10")
        print(handle.wait(600)["addresses"])
"""

from taskvisor.client.handle import Handle, Outcome, StillRunning
from taskvisor.client.step_events import EventState, StepEvent
from taskvisor.client.taskvisor import Taskvisor

__all__ = ["EventState", "Handle", "Outcome", "StepEvent", "StillRunning", "Taskvisor"]
