"""The database of this host's Open vSwitch (RFC 7047), through ovsdbapp: ports looked at, made, removed. Knows no policy.

ovsdbapp is OpenStack's own, with a release every half year, and what Neutron and OVN use; it is loaded when a network of kind
`ovs` is first plugged, so hosts without such networks need not have it. A connection is opened for each piece of work and has a
thread of its own until it is closed. A port is made in one transaction: a process that dies leaves all of it or nothing.

Every port has a QoS row of type `linux-noop`: without one, ovs-vswitchd removes from the TAP what limits its rate.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from net.ovs.plan import INDEX_KEY, OWNER_KEY, SwitchPortPlan
from net.ovs.schema import SCHEMA
from taskvisor.model.errors import CannotAsk, DoesNotFit, Retryable

LIMIT_S = 10.0
UNIX = "unix:"
ACCESS = "access"
NO_QOS = "linux-noop"


@dataclass(frozen=True, kw_only=True)
class SwitchPort:
    """A port as the database says. `owner` and `tap_index`, the index of the link that it was made for, are ours alone;
    `number` is None or -1, and `error` a text, when it is not in use.
    """

    name: str
    bridge: str
    owner: str | None
    tap_index: int | None
    tag: int | None
    mode: str | None
    has_queues_of_ours: bool
    interface_ids: Mapping[str, str]
    number: int | None
    error: str | None


class Switch:
    """One connection, and a copy of what we look at that the server keeps up to date.

    Changes raise Retryable when the database does not take them, or does not answer in 10 s.
    """

    def __init__(self, api: Any, timed_out: type[Exception]) -> None:
        self._api = api
        self._timed_out = timed_out

    def has_bridge(self, name: str) -> bool:
        """Whether there is a bridge of that name."""
        with self._api.ovsdb_connection.lock:
            return any(row.name == name for row in self._api.tables["Bridge"].rows.values())

    def has_interface(self, name: str) -> bool:
        """Whether some port, of whatever name, has an interface of that name."""
        return self._api.lookup("Interface", name, default=None) is not None

    def read_port(self, name: str) -> SwitchPort | None:
        """The port; None when there is none of that name."""
        with self._api.ovsdb_connection.lock:
            row = self._api.lookup("Port", name, default=None)
            if row is None:
                return None
            bridges = self._api.tables["Bridge"].rows.values()
            return _port_of(row, next((bridge.name for bridge in bridges if row in bridge.ports), ""))

    def ensure_port(self, plan: SwitchPortPlan, *, tap_index: int) -> None:
        """A port of that name, on whichever bridge it is or newly on the plan's, is as the plan says."""
        queues = self._queues_of(plan.owner)
        is_there = self.read_port(plan.name) is not None
        with self._changing(f"put {plan.name} on bridge {plan.bridge}") as transaction:
            if not is_there:
                transaction.add(self._api.add_port(plan.bridge, plan.name, may_exist=False))
            owner = {OWNER_KEY: plan.owner}
            qos = queues[0] if queues else transaction.add(self._api.db_create("QoS", type=NO_QOS, external_ids=owner))
            transaction.add(
                self._api.db_set(
                    "Port",
                    plan.name,
                    ("tag", [] if plan.tag is None else plan.tag),
                    ("vlan_mode", ACCESS),
                    ("external_ids", owner | {INDEX_KEY: str(tap_index)}),
                    ("qos", qos),
                    if_exists=False,
                )
            )
            ids_of_interface = ("external_ids", dict(plan.interface_ids))
            transaction.add(self._api.db_set("Interface", plan.name, ids_of_interface, if_exists=False))

    def ensure_port_absent(self, name: str, owner: str) -> None:
        """The port is gone, and then the rows that the owner had beside it: the server lets none go that a port refers to."""
        if self.read_port(name) is not None:
            with self._changing(f"remove port {name}") as transaction:
                transaction.add(self._api.del_port(name, if_exists=True))
        if queues := self._queues_of(owner):
            with self._changing(f"remove what port {name} had") as transaction:
                for queue in queues:
                    transaction.add(self._api.db_destroy("QoS", queue))

    def has_rows_of(self, owner: str) -> bool:
        """Whether rows of the owner are there that do not go with its port."""
        return bool(self._queues_of(owner))

    def _queues_of(self, owner: str) -> list[Any]:
        with self._api.ovsdb_connection.lock:
            rows = self._api.tables["QoS"].rows.values()
            return [row.uuid for row in rows if row.external_ids.get(OWNER_KEY) == owner]

    @contextmanager
    def _changing(self, what: str) -> Iterator[Any]:
        """A transaction, committed at the end of the block; then the switch has had its time to follow it."""
        try:
            with self._api.transaction(check_error=True, log_errors=False) as transaction:
                yield transaction
        except self._timed_out as error:  # whose own text is pages long
            raise Retryable(f"can't {what} within {LIMIT_S:g} s: do ovsdb-server and ovs-vswitchd run?") from error
        except RuntimeError as error:  # ovsdbapp's own are such, and so are the database's refusals
            raise Retryable(f"can't {what}: {error}") from error


@contextmanager
def open_switch(remote: str) -> Iterator[Switch]:
    """The switch whose database listens at `remote` (unix:PATH), until the end of the block.

    DoesNotFit when this host has no ovsdbapp; CannotAsk when the database does not answer in 10 s.
    """
    _require_listener(remote)
    switch, connection = _connected(remote)
    try:
        yield switch
    finally:
        connection.stop(LIMIT_S)


def _connected(remote: str) -> tuple[Switch, Any]:
    try:
        from ovs.db.idl import SchemaHelper  # noqa: PLC0415 - an extra
        from ovsdbapp.backend.ovs_idl.connection import Connection  # noqa: PLC0415
        from ovsdbapp.backend.ovs_idl.connection import OvsdbIdl as Replica  # noqa: PLC0415
        from ovsdbapp.exceptions import TimeoutException  # noqa: PLC0415
        from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl  # noqa: PLC0415
    except ImportError as error:
        raise DoesNotFit(
            f"networks of kind ovs need the extra `ovs` on this host ({error}): install taskvisor[ovs]"
        ) from error

    class Api(OvsdbIdl):  # type: ignore[misc]
        """Its own connection: the library keeps one for the whole process, in the class, whatever it is told later."""

        ovsdb_connection = None

    helper = SchemaHelper(schema_json=SCHEMA)
    helper.register_all()
    connection = Connection(idl=Replica(remote, helper), timeout=LIMIT_S)
    api = Api(connection, start=False)  # started by ourselves: its own start logs an error that can't be put in words
    try:
        connection.start()
    except TimeoutException as error:
        connection.idl.close()
        raise CannotAsk(
            f"can't ask Open vSwitch at {remote}: it does not answer in {LIMIT_S:g} s; is it hung?"
        ) from error
    return Switch(api, TimeoutException), connection


def _require_listener(remote: str) -> None:
    """The library tries again until its time is up where nobody listens; so look first."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(LIMIT_S)
            asking.connect(remote.removeprefix(UNIX))
    except OSError as error:
        raise CannotAsk(
            f"can't ask Open vSwitch at {remote}: {error}; start ovsdb-server, or set TASKVISOR_OVSDB to its socket"
        ) from error


def _port_of(row: Any, bridge: str) -> SwitchPort:
    interface = next((found for found in row.interfaces if found.name == row.name), None)
    ours = [queue for queue in row.qos if queue.type == NO_QOS]
    return SwitchPort(
        name=row.name,
        bridge=bridge,
        owner=row.external_ids.get(OWNER_KEY),
        tap_index=_number_in(row.external_ids.get(INDEX_KEY)),
        tag=_only(row.tag),
        mode=_only(row.vlan_mode),
        has_queues_of_ours=bool(ours),
        interface_ids={} if interface is None else dict(interface.external_ids),
        number=None if interface is None else _only(interface.ofport),
        error=None if interface is None else _only(interface.error),
    )


def _number_in(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _only(values: Any) -> Any:
    """What an optional column holds; None when it is empty."""
    return values[0] if values else None
