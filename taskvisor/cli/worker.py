"""`taskvisor worker`: this machine as a host: both its nodes, kept running. A service manager can run this, and nothing else."""

from pathlib import Path

import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.nodes import nodes_of
from taskvisor.cli.records import settings_or_usage_error
from taskvisor.cli.render import report
from taskvisor.cli.supervisor import open_supervisor


def worker() -> None:
    """Run this host's two nodes, steps and control, until SIGTERM or ctrl-C."""
    settings = settings_or_usage_error()
    ensure_directory(settings.state_dir)
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


def ensure_directory(path: Path) -> None:
    """The state directory is there. UsageError when it can't be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"state directory {path}: {error.strerror}; run as root, or name another by TASKVISOR_STATE_DIR"
        ) from None
