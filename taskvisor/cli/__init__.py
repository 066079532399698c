"""The `taskvisor` command. It asks and reads; what it starts, it starts as child processes: it imports nothing of a worker."""

from taskvisor.cli.app import main

__all__ = ["main"]
