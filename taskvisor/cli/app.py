"""The command line: its root, and how errors end. An expected error never shows a traceback."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from taskvisor.cli.commands import Commands
from taskvisor.cli.exits import ExitCode, UsageError, code_for
from taskvisor.cli.render import say_error
from taskvisor.client.handle import StillRunning
from taskvisor.model.errors import TaskvisorError


class Root(TyperGroup):
    """Turns the errors of Taskvisor into a sentence and an exit code."""

    def __init__(self, *, commands: Any = None, **more: Any) -> None:  # noqa: ARG002 - typer has none: they are made when asked for
        super().__init__(commands=Commands(), **more)  # type: ignore[arg-type]

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
    cls=Root,
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


def main() -> None:
    """The console script."""
    app(prog_name="taskvisor")
