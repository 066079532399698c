"""`taskvisor server-group`: guests that are to be beside each other, or apart. `launch --server-group` puts one in."""

from typing import Annotated

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.prospects import DryRunOption, deletion_of_server_group, end_with_prospects
from taskvisor.cli.records import complete_server_group, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_record, show_rows, show_table, shows_all
from taskvisor.cli.requesting import IdOption, request_each, request_one, require_sense
from taskvisor.model.errors import Refused
from taskvisor.model.fleet_spec import ServerGroupSpec
from taskvisor.model.fleet_views import server_group_view, shown_server_group_view
from taskvisor.model.server_group import GroupPolicy

app = typer.Typer(help="Server groups: guests beside each other, or apart.", no_args_is_help=True)


@app.command("list")
def list_groups(form: FormatOption = Format.TABLE) -> None:
    """List server groups."""
    with open_records(settings_or_usage_error()) as records:
        found = records.server_groups.list()
    views = [server_group_view(group) for group in found]
    rows = ((group.name, group.policy.value, str(group.servers_per_host), group.id) for group in found)
    show_rows(form, ("NAME", "POLICY", "#PER HOST", "ID"), rows, views, empty="No server groups.")


@app.command()
def show(
    group: Annotated[str, typer.Argument(metavar="GROUP", autocompletion=complete_server_group)],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the guests of a server group, and where they are."""
    with open_records(settings_or_usage_error()) as records:
        found = records.server_groups.look_up(group)
        names = {} if found is None else records.instance_names(found[1])
    if found is None:
        raise Refused(f"there is no server group {group!r}; see `taskvisor server-group list`")
    record, members = found
    if not shows_all(form):
        fields = (
            ("Name", record.name),
            ("Policy", record.policy.value),
            ("Guests", str(len(members))),
            ("Id", record.id),
        )
        show_record(form, fields, shown_server_group_view(record, members))
        return
    rows = ((names.get(member, "-"), host, member) for member, host in sorted(members.items(), key=lambda one: one[1]))
    show_table(("NAME", "HOST", "ID"), rows, empty=f"{record.name} ({record.policy}) has no guests.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    policy: Annotated[GroupPolicy, typer.Option(help="Where its guests are to be; the soft ones are wishes.")],
    per_host: Annotated[
        int, typer.Option("--per-host", min=1, help="With anti-affinity: so many of them may be on one host.")
    ] = 1,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make a server group. Exits with 3 when it is there already."""
    require_sense(ServerGroupSpec, {"name": name, "policy": policy.value, "servers_per_host": per_host})
    request_one(
        "server-group create",
        name,
        lambda client, subject, request_id: client.create_server_group(
            subject, policy.value, servers_per_host=per_host, operation_id=request_id
        ),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def delete(
    groups: Annotated[list[str], typer.Argument(metavar="GROUP...", autocompletion=complete_server_group)],
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete server groups that no instance is in. Exits with 3 when none of them was there."""
    if dry_run:
        end_with_prospects(groups, deletion_of_server_group, form)
    request_each(
        "server-group delete",
        groups,
        lambda client, subject, request_id: client.delete_server_group(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )
