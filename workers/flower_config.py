"""Flower's configuration file (`--conf`): how a task is shown, and of what Redis the queues are. Flower reads the names of this
module as its options.

See https://flower.readthedocs.io/en/latest/config.html#format-task.
"""

from workers.flower_broker import show_our_queues
from workers.flower_view import shown as format_task

__all__ = ["format_task"]

show_our_queues()
