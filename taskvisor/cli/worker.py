"""`taskvisor worker`: this machine as a host: both its nodes, kept running. A service manager can run this, and nothing else."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.nodes import adoption_of, nodes_of
from taskvisor.cli.processes import run_briefly
from taskvisor.cli.records import settings_or_usage_error
from taskvisor.cli.render import report
from taskvisor.cli.supervisor import open_supervisor
from taskvisor.settings import Settings

ADOPTION_LIMIT_S = 180.0
"""It asks libvirt, and waits until a heartbeat that may be another machine's has lapsed or was renewed."""


def worker(
    adopt_identity: Annotated[
        bool,
        typer.Option(
            "--adopt-identity",
            help="First make this machine the host that TASKVISOR_HOST says, after a start was refused and you know why.",
        ),
    ] = False,
) -> None:
    """Run this host's two nodes, steps and control, until SIGTERM or ctrl-C."""
    settings = settings_or_usage_error()
    ensure_directory(settings.state_dir)
    if adopt_identity:
        adopt(settings)
    nodes = nodes_of(settings)
    with open_supervisor(report) as supervisor:
        for node in nodes:
            supervisor.start(node)
        report(f"host {settings.host}: both nodes are started; stop them with ctrl-C or SIGTERM")
        supervisor.attend()
        report(
            "stopping: running steps are finished first; a second signal cuts them off, and they resume at the next start"
        )
        supervisor.stop([node.name for node in nodes])
        killed = supervisor.killed
    report("stopped")
    raise typer.Exit(ExitCode.FAILED if killed else ExitCode.DONE)


def adopt(settings: Settings) -> None:
    """This machine is that host from now on. Ends the command, with what is against it, when it can't be."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        code, said = run_briefly(adoption_of(settings), mask, limit_s=ADOPTION_LIMIT_S)
    except TimeoutError as error:
        raise UsageError(f"the identity was not adopted: {error}") from error
    for line in said.splitlines():
        report(line)
    if code != 0:
        raise typer.Exit(ExitCode.FAILED)


def ensure_directory(path: Path) -> None:
    """The state directory is there. UsageError when it can't be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"state directory {path}: {error.strerror}; run as root, or name another by TASKVISOR_STATE_DIR"
        ) from None
