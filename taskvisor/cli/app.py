"""The command line: which commands there are, and how their errors end. An expected error never shows a traceback."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from taskvisor.cli import (
    aggregate,
    console,
    console_log,
    events,
    flavor,
    floating,
    group,
    host,
    image,
    interface,
    launch,
    lifecycle,
    listing,
    monitor,
    network,
    ops,
    orphans,
    preflight,
    rebuild,
    server_group,
    services,
    ssh,
    ticks,
    top,
    up,
    usage,
    verify,
    vnc,
    volume,
    webhooks,
    why,
    worker,
)
from taskvisor.cli.columns import add_column_option
from taskvisor.cli.exits import ExitCode, UsageError, code_for
from taskvisor.cli.render import say_error
from taskvisor.client.handle import StillRunning
from taskvisor.model.errors import TaskvisorError


class Commands(TyperGroup):
    """Turns the errors of Taskvisor into a sentence and an exit code; and wherever there is -f, there is -c."""

    def __init__(self, *, commands: Any = None, **more: Any) -> None:
        super().__init__(commands=commands, **more)
        add_column_option(self.commands)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StillRunning as error:
            say_error(str(error))
            raise typer.Exit(ExitCode.STILL_RUNNING) from None
        except UsageError as error:
            say_error(str(error), attempt=f"taskvisor {ctx.invoked_subcommand or ''} --help")
            raise typer.Exit(ExitCode.USAGE) from None
        except TaskvisorError as error:
            say_error(str(error))
            raise typer.Exit(code_for(error)) from None


app = typer.Typer(
    cls=Commands,
    help="Virtual machines on fleets of KVM hosts, run by Celery workers.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 already so, 4 still running, 5 no capacity.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"taskvisor {version('taskvisor')}")
        except PackageNotFoundError:
            typer.echo("taskvisor, from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


INSTANCES, FLEET, HERE = "Instances", "The fleet", "This machine"
app.command(rich_help_panel=INSTANCES)(launch.launch)
app.command("list", rich_help_panel=INSTANCES)(listing.list_instances)
app.command(rich_help_panel=INSTANCES)(listing.show)
app.command(rich_help_panel=INSTANCES)(lifecycle.start)
app.command(rich_help_panel=INSTANCES)(lifecycle.stop)
app.command(rich_help_panel=INSTANCES)(lifecycle.reboot)
app.command(rich_help_panel=INSTANCES)(lifecycle.snapshot)
app.command(rich_help_panel=INSTANCES)(lifecycle.delete)
app.command(rich_help_panel=INSTANCES)(lifecycle.restore)
app.add_typer(volume.app, name="volume", rich_help_panel=INSTANCES)
app.add_typer(interface.app, name="interface", rich_help_panel=INSTANCES)
app.command(rich_help_panel=INSTANCES)(ssh.ssh)
app.command(rich_help_panel=INSTANCES)(console.console)
app.command(rich_help_panel=INSTANCES)(vnc.vnc)
app.command("console-log", rich_help_panel=INSTANCES)(console_log.console_log)
app.add_typer(ops.app, name="ops", rich_help_panel=FLEET)
app.command(rich_help_panel=INSTANCES)(why.why)
app.command(rich_help_panel=FLEET)(top.top)
app.command(rich_help_panel=FLEET)(listing.hosts)
app.add_typer(host.app, name="host", rich_help_panel=FLEET)
app.add_typer(aggregate.app, name="aggregate", rich_help_panel=FLEET)
app.add_typer(server_group.app, name="server-group", rich_help_panel=FLEET)
app.add_typer(image.app, name="image", rich_help_panel=FLEET)
app.command(rich_help_panel=FLEET)(listing.images)
app.command(rich_help_panel=FLEET)(listing.networks)
app.add_typer(flavor.app, name="flavor", rich_help_panel=FLEET)
app.add_typer(network.app, name="network", rich_help_panel=FLEET)
app.add_typer(group.app, name="group", rich_help_panel=FLEET)
app.add_typer(floating.app, name="floating", rich_help_panel=FLEET)
app.command(rich_help_panel=FLEET)(monitor.monitor)
app.command(rich_help_panel=FLEET)(ticks.ticks)
app.command(rich_help_panel=FLEET)(usage.usage)
app.command(rich_help_panel=FLEET)(events.events)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=FLEET)
app.command(rich_help_panel=FLEET)(verify.verify)
app.add_typer(orphans.app, name="orphans", rich_help_panel=FLEET)
app.command(rich_help_panel=FLEET)(rebuild.rebuild)
app.command(rich_help_panel=HERE)(up.up)
app.command(rich_help_panel=HERE)(worker.worker)
app.command(rich_help_panel=HERE)(services.control)
app.command(rich_help_panel=HERE)(services.beat)
app.command(rich_help_panel=HERE)(services.flower)
app.command(rich_help_panel=HERE)(preflight.preflight)


def main() -> None:
    """The console script."""
    app(prog_name="taskvisor")
