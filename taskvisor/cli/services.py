"""`taskvisor control`, `beat` and `flower`: what a fleet needs once or twice, each one process that a service manager runs.

The process becomes the program, so that signals and exit codes are its own.
"""

import os

from taskvisor.cli import nodes
from taskvisor.cli.exits import UsageError
from taskvisor.cli.flower_options import asks_who_it_is
from taskvisor.cli.processes import Program
from taskvisor.cli.records import settings_or_usage_error
from taskvisor.cli.render import report
from taskvisor.cli.worker import ensure_directory

LOOPBACK = ("127.0.0.1", "::1")


def control() -> None:
    """Take requests on a machine that is no host, until SIGTERM. Hosts' control nodes do so too; this is one more."""
    settings = settings_or_usage_error()
    ensure_directory(settings.state_dir)
    _become(nodes.requests_node_of(settings))


def beat() -> None:
    """Send the periodic tasks, until SIGTERM or ctrl-C. Two may run, on two machines: one of them is silent."""
    settings = settings_or_usage_error()
    ensure_directory(settings.state_dir)
    _become(nodes.beat_of(settings))


def flower() -> None:
    """Run Flower, the window, at TASKVISOR_FLOWER_ADDRESS and _PORT. Flower's own options are FLOWER_… variables."""
    settings = settings_or_usage_error()
    ensure_directory(settings.state_dir)
    program = nodes.flower_of(settings, settings.flower_port)
    if settings.flower_address not in LOOPBACK and not asks_who_it_is(program.environment):
        report(
            f"Flower listens on {settings.flower_address} without a password, and whoever reaches it sees and may end"
            " everything: set FLOWER_BASIC_AUTH=USER:PASSWORD (docs/operations.md)"
        )
    _become(program)


def _become(program: Program) -> None:
    os.chdir(program.directory)
    try:
        os.execve(program.argv[0], list(program.argv), dict(program.environment))  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise UsageError(f"{program.name} can't be run: {error}") from error
