"""`taskvisor ssh NAME [-- ARGS]`: ssh to a guest, with its address and its user looked up. From then on this process is ssh."""

from typing import Annotated, NoReturn

import typer

from taskvisor.cli.lifecycle import Name
from taskvisor.cli.processes import become
from taskvisor.cli.reach import Way, ssh_words, way_to
from taskvisor.cli.records import Records, complete_host, open_records, settings_or_usage_error
from taskvisor.model.errors import Refused
from taskvisor.model.records import Instance


def ssh(
    name: Name,
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGS...]", help="For ssh, as they are: its options, and a command to run there."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", "-l", help="Else the image's property os_admin_user; else as ssh is configured."),
    ] = None,
    jump: Annotated[
        str | None,
        typer.Option("--jump", "-J", metavar="HOST", help="By this host, as ssh -J.", autocompletion=complete_host),
    ] = None,
) -> None:
    """Log in to a guest by ssh: at its floating address, if it has one, else at its own. The exit code is ssh's."""
    settings = settings_or_usage_error()
    with open_records(settings) as records:
        instance = records.find_instance(name)
        way = _way_to(records, instance, settings.host)
    words = ssh_words(instance, way, here=settings.host, user=user, jump=jump)
    become_ssh([*words, *(args or ())])


def become_ssh(words: list[str]) -> NoReturn:
    """This process is ssh from now on. Refused when it is not installed."""
    try:
        become(words)
    except FileNotFoundError:
        raise Refused("ssh is not installed here; install it (Debian: openssh-client)") from None


def _way_to(records: Records, instance: Instance, here: str) -> Way:
    floating = {one.port_id: one.address for one in records.floating.list() if one.port_id is not None}
    kinds = {network.id: network.kind for network in records.catalog.list_networks()}
    return way_to(instance, floating, kinds, here)
