"""`taskvisor group`: security groups are made, changed, deleted and shown, and ports are put into them."""

from typing import Annotated

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.lifecycle import Name, TurnOption
from taskvisor.cli.prospects import DryRunOption, deletion_of_group, end_with_prospects
from taskvisor.cli.records import complete_group, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_record, show_rows, show_table, shows_all
from taskvisor.cli.requesting import IdOption, request_each, request_one, require_sense
from taskvisor.cli.rules import rule_for, rule_text
from taskvisor.fields import RuleFields
from taskvisor.model.errors import Refused
from taskvisor.model.group_spec import SecurityGroupSpec
from taskvisor.model.network_view import group_view

GroupArgument = Annotated[
    str, typer.Argument(metavar="GROUP", help="The group, by name or id.", autocompletion=complete_group)
]
RuleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        metavar="DIRECTION[,KEY=VALUE..]",
        help="in or out, and what of: family=ipv6, protocol=tcp, ports=80-90, remote=10.0.0.0/8, group=web; repeated.",
    ),
]

app = typer.Typer(help="Security groups: what may pass to and from guests.", no_args_is_help=True)


@app.command("list")
def list_groups(form: FormatOption = Format.TABLE) -> None:
    """List security groups."""
    with open_records(settings_or_usage_error()) as records:
        found = records.groups.list()
    views = [group_view(group) for group in found]
    rows = ((group.name, str(len(group.rules)), group.id) for group in found)
    show_rows(
        form,
        ("NAME", "#RULES", "ID"),
        rows,
        views,
        empty="No security groups yet. The group `default` is made at first use.",
    )


@app.command()
def show(group: GroupArgument, form: FormatOption = Format.TABLE) -> None:
    """Show the rules of a group. What none of them lets pass is dropped; answers pass by themselves."""
    with open_records(settings_or_usage_error()) as records:
        found = records.groups.look_up(group)
        names = records.groups.read_names().names
    if found is None:
        raise Refused(f"there is no security group {group!r}; see `taskvisor group list`")
    if not shows_all(form):
        show_record(form, (("Name", found.name), ("Rules", str(len(found.rules))), ("Id", found.id)), group_view(found))
        return
    rows = ((str(number), rule_text(rule, names)) for number, rule in enumerate(found.rules))
    show_table(("#NUMBER", "RULE"), rows, empty=f"{found.name} has no rules: nothing passes but answers.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    rule: RuleOption = None,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make a group. Without rules it lets nothing pass but answers. Exits with 3 when it is there already."""
    rules = _rules_for(rule)
    require_sense(SecurityGroupSpec, {"name": name, "rules": rules})
    request_one(
        "group create",
        name,
        lambda client, subject, request_id: client.create_security_group(subject, rules, operation_id=request_id),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def update(
    group: GroupArgument,
    rule: RuleOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Give a group these rules in place of those that it has. Guests that are in it run on, and their connections with them."""
    rules = _rules_for(rule)
    require_sense(SecurityGroupSpec, {"name": "group", "rules": rules})
    request_one(
        "group update",
        group,
        lambda client, subject, request_id: client.update_security_group(subject, rules, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def delete(
    groups: Annotated[
        list[str], typer.Argument(metavar="GROUP...", help="By name or id.", autocompletion=complete_group)
    ],
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete groups that no port is in and no rule names. Exits with 3 when none of them was there."""
    if dry_run:
        end_with_prospects(groups, deletion_of_group, form)
    request_each(
        "group delete",
        groups,
        lambda client, subject, request_id: client.delete_security_group(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("set")
def set_groups(
    name: Name,
    groups: Annotated[
        list[str] | None, typer.Argument(metavar="[GROUP...]", help="By name or id.", autocompletion=complete_group)
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Which NIC: its address, MAC or id; needed when it has several."),
    ] = None,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Put a NIC of an instance into these groups, and no others. A guest that runs runs on."""
    request_one(
        "group set",
        name,
        lambda client, subject, request_id: client.update_port(
            subject, groups or [], port=port, wait_turn_s=wait_turn, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


def _rules_for(texts: list[str] | None) -> list[RuleFields]:
    return [rule_for(text) for text in texts or ()]
