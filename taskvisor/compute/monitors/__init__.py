"""Monitors: what is made of two looks at a host. Plug-ins; ours are the modules beside this one.

Invariant: a monitor that fails, or can't tell, hides no other; what can't be told is not told.
"""

from taskvisor.compute.monitors.base import GuestLook, Look, Monitor, Values
from taskvisor.compute.monitors.loading import GROUP, OURS, load_monitors

__all__ = ["GROUP", "OURS", "GuestLook", "Look", "Monitor", "Values", "load_monitors"]
