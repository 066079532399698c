"""Connections that stand on this host when what let them through is gone: held against the rules, or forgotten.

What was looked at is noted as a digest in a file (`<directory>/<name>.settled`), written last: a process that died before comes
to it again, and nothing is looked at twice for nothing. Composes the kernel's memory of connections (net/links/conntrack.py) and
the verdicts (net/filters/revocation.py); never touches a rule. A kernel without ctnetlink is told of once: there all that stands
goes on, and all else works.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from net.filters.port_rules import PortRules
from net.filters.revocation import Policy, policy_of, verdict_for
from net.filters.states import zone_for
from net.kinds import GATEWAY_KINDS
from net.links.conntrack import NO_ZONE, Connection, Conntrack, ConntrackMissing, open_conntrack
from net.plan import FILTERED_KINDS
from taskvisor.model.errors import CannotAsk
from taskvisor.model.network import NetworkKind, Surroundings
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)


class Connections:
    """One process's view. `directory` is where what was settled is noted: that of the remembered ports.

    Every method: errors as of `Conntrack`, but that a kernel which can't is no error; CannotAsk when a note can't be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told_missing = False

    def ensure_judged(
        self, ports: Iterable[PortRules], around: Surroundings, own: Callable[[], Collection[str]]
    ) -> None:
        """Of the connections of these ports, those that their groups no longer let pass are revoked, and no others.

        `own` tells the addresses of this host: what it began itself is nobody's business.
        """
        policies = [policy for port in ports if (policy := policy_of(port, around)) is not None]
        unsettled = [policy for policy in policies if not self._is_settled(policy.port.tap, policy)]
        if not unsettled:
            return
        held = frozenset(own())
        with self._opened() as conntrack:
            for policy in unsettled:
                _judge(conntrack, policy, held)
                self._settle(policy.port.tap, policy)

    def is_translation_settled(self, name: str, pairs: Mapping[str, str]) -> bool:
        """Whether `ensure_translated` has been through with these pairs of the network with that bridge's name."""
        return self._is_settled(name, dict(pairs)) if pairs else not self._path(name).exists()

    def ensure_translated(self, name: str, pairs: Mapping[str, str], gone: Collection[str]) -> None:
        """No connection is translated between an outer address and another port's than it has: `pairs` are outer -> port's,
        those `gone` have none.
        """
        with self._opened() as conntrack:
            for outer, inner in {**dict.fromkeys(gone, ""), **pairs}.items():
                for connection in _stale_of(conntrack, outer, inner):
                    conntrack.ensure_absent(connection)
                    log.info("connection_forgotten", address=outer, peer=connection.original.source)
        if pairs:
            self._settle(name, dict(pairs))
        else:
            self._path(name).unlink(missing_ok=True)

    def ensure_forgotten(self, vif: VifPlan) -> None:
        """No connection of the NIC is remembered: the next port of that address must not be taken for it."""
        if vif.kind not in FILTERED_KINDS:
            return
        self._path(vif.tap).unlink(missing_ok=True)
        zone = NO_ZONE if vif.kind is NetworkKind.ROUTED else zone_for(vif.network_id)
        zones = {zone, NO_ZONE} if vif.kind in GATEWAY_KINDS else {zone}
        with self._opened() as conntrack:
            for address in filter(None, (vif.address, vif.address6)):
                begun = [one for one in conntrack.list_begun_by(address) if one.original.zone == zone]
                answered = [one for one in conntrack.list_answered_by(address) if one.reply.zone in zones]
                for connection in (*begun, *answered):
                    conntrack.ensure_absent(connection)

    def ensure_network_absent(self, name: str) -> None:
        """Nothing is noted of the network with that bridge's name."""
        self._path(name).unlink(missing_ok=True)

    @contextmanager
    def _opened(self) -> Iterator[Conntrack]:
        try:
            with open_conntrack() as conntrack:
                yield conntrack
        except ConntrackMissing as error:
            if not self._told_missing:
                log.warning("connections_not_ended", reason=str(error))
            self._told_missing = True

    def _is_settled(self, name: str, what: Policy | dict[str, str]) -> bool:
        try:
            return self._path(name).read_text() == _digest(what)
        except FileNotFoundError:
            return False

    def _settle(self, name: str, what: Policy | dict[str, str]) -> None:
        path = self._path(name)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            path.write_text(_digest(what))  # torn by a death it is another, and looked at again
        except OSError as error:
            raise CannotAsk(f"can't write {path}: {error.strerror}; its connections are looked at again") from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.settled"


def _judge(conntrack: Conntrack, policy: Policy, own: Collection[str]) -> None:
    for address in policy.port.addresses:
        found = {one.id: one for one in (*conntrack.list_begun_by(address), *conntrack.list_answered_by(address))}
        for connection in found.values():
            among, bits = verdict_for(connection, address, policy, own)
            if connection.mark & among == bits:
                continue
            conntrack.ensure_marked(connection, bits, among=among)
            verdict = "connection_revoked" if bits else "connection_let_pass_again"
            original = connection.original
            log.info(verdict, tap=policy.port.tap, begun_by=original.source, begun_to=original.destination)


def _stale_of(conntrack: Conntrack, outer: str, inner: str) -> Iterator[Connection]:
    """Connections by the outer address that are not the port's; what is the host's own, by an address that it has, is not
    translated.
    """
    for connection in conntrack.list_begun_to(outer):
        if connection.reply.source not in (inner, outer):
            yield connection
    for connection in conntrack.list_answered_to(outer):
        if connection.original.source not in (inner, outer):
            yield connection


def _digest(what: Policy | dict[str, str]) -> str:
    return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()
