"""`taskvisor console NAME`: a person at a guest's serial console. On its host by a program of virt's; from elsewhere by ssh."""

import signal
import sys
from typing import Annotated

import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.lifecycle import Name
from taskvisor.cli.nodes import console_of
from taskvisor.cli.processes import ending_text, run_on_terminal
from taskvisor.cli.reach import hop_words
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import say
from taskvisor.cli.ssh import become_ssh
from taskvisor.cli.worker import ensure_directory
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.records import Instance
from taskvisor.settings import Settings


def console(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Take it from whoever has it now.")] = False,
) -> None:
    """Attend an instance's serial console; ctrl-] leaves. On another machine than its host this goes by ssh to the host."""
    settings = settings_or_usage_error()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"console: needs a terminal; what the guest said is in: taskvisor console-log {name}")
    with open_records(settings) as records:
        instance = records.find_instance(name)
    require_attendable(settings, instance)
    words = ("force",) if force else ()
    if instance.host != settings.host:
        say(f"{instance.name} is on host {instance.host}: by ssh to it")
        become_ssh(hop_words(instance, settings, ["console", instance.id, *(f"--{word}" for word in words)]))
    say(f"At the console of {instance.name}; ctrl-] leaves. Enter may bring a prompt.")
    ensure_directory(settings.state_dir)
    code = run_on_terminal(console_of(settings, instance, *words), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    if code < 0:
        raise TaskvisorError(f"the console {ending_text(code)}; the guest is not touched by that")
    raise typer.Exit(ExitCode.DONE if code == 0 else ExitCode.FAILED)


def require_attendable(settings: Settings, instance: Instance) -> None:
    """Refused for simulated guests, which are small files."""
    if settings.driver == "simulated" and instance.host == settings.host:
        raise Refused(f"{instance.name} is simulated: it has neither console nor screen")
