"""`taskvisor host`: one host, with all that it says of itself. Reads records and shows them; asks for nothing."""

from typing import Annotated

import typer

from taskvisor.cli.host_details import details_of, host_details_view
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_fields, show_json
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName

HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="The host, by name.")]

app = typer.Typer(help="Hosts: what one has, and what is used of it.", no_args_is_help=True)


@app.command()
def show(host: HostArgument, form: FormatOption = Format.TABLE) -> None:
    """Show what a host has, what of it is claimed and by whom, and what it says of itself."""
    name = HostName(host)
    with open_records(settings_or_usage_error()) as records:
        found = next((one for one in records.hosts.list_hosts() if one.name == name), None)
        (held,) = records.hosts.list_held([name])
    if found is None:
        raise Refused(f"there is no host {host!r}; see `taskvisor hosts`")
    if form is Format.JSON:
        show_json(host_details_view(found, held))
        return
    show_fields(details_of(found, held))
