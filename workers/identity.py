"""A host's identity at a start: the file, the settings, the store and the hypervisor must say the same of this machine.

Asked once, after the store was found fit and before anything is consumed. Silence is never taken for agreement: a Redis that
is silent raises CannotAsk and is connected to anew; a hypervisor that is silent, while it must be asked, is a refusal in words.

Invariant: in the store nothing but the host's identity is written here, on the host nothing but `identity.json`; and that one
first: a crash between the two is a start that has not come to its end, and the next one goes on with it.
"""

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import structlog

from taskvisor.compute.identity import (
    ADOPT,
    Claimant,
    Clash,
    Refusal,
    alive_refusal,
    is_proven,
    is_renewed,
    look_refusals,
    paper_refusals,
    suspects,
)
from taskvisor.model.errors import CannotAsk, Refused, StoreConflict
from taskvisor.model.identity import HostIdentity, HostLook, IdentityRecord, KnownHost, Role, Seat
from taskvisor.model.ids import HostName
from taskvisor.state.identities import Identities
from workers.identity_file import Damaged, create_identity, path_in, read_identity, replace_identity
from workers.locks import lock_path, open_lock

log = structlog.get_logger(__name__)

LOOKS_LIMIT = 20
"""The other node of the host registers it at the same time, at most once each."""
BEAT_LOOK_S = 0.5
"""A heartbeat that may be another machine's is looked at so often, until it is renewed or has lapsed."""


@dataclass(frozen=True, kw_only=True)
class IdentityCheck:
    """One host's, at one start. `read_look` asks the hypervisor; a heartbeat lasts `beats_limit_s` if nobody renews it."""

    host: HostName
    state_dir: Path
    seat: Seat
    store: Identities
    read_look: Callable[[], HostLook]
    beats_limit_s: float
    roles: Collection[Role] = ()
    """Those that this process plays, and holds the locks of."""
    overruled: Collection[Clash] = ()
    """What an operator has said is right so."""

    def ensure_identity(self) -> HostIdentity:
        """This machine is that host, by its file and by the store. Refused with every reason and what to do about each.

        UnreadableRecord when a newer version wrote the file or the record; CannotAsk when Redis is silent.
        """
        for _ in range(LOOKS_LIMIT):
            try:
                return self._ensured_once()
            except StoreConflict:
                continue  # the other node was quicker: it is the same host, or that is found out now
        raise Refused(
            f"the identity of host {self.host} was changed {LOOKS_LIMIT} times while it was looked at; by whom?"
        )

    def list_refusals(self) -> tuple[Refusal, ...]:
        """What a start would be refused for. Nothing is written. Refused when the hypervisor does not answer."""
        kept, damaged = self._read_kept()
        claimant, known = self._claimant(kept), self.store.read(self.host)
        if is_proven(claimant, known):
            return ()
        return (*damaged, *self._refusals(claimant, known, self._look()))

    def _ensured_once(self) -> HostIdentity:
        kept, damaged = self._read_kept()
        claimant, known = self._claimant(kept), self.store.read(self.host)
        if kept is not None and is_proven(claimant, known):
            return kept
        self._require(damaged)
        self._require_not_elsewhere(claimant, known)
        look = self._look()
        self._require(self._refusals(claimant, known, look))
        return self._settled(kept, known, look)

    def _read_kept(self) -> tuple[HostIdentity | None, tuple[Refusal, ...]]:
        try:
            return read_identity(self.state_dir), ()
        except Damaged as damage:
            said = f"{damage}; restore it from a backup, or run {ADOPT} once to have it made anew"
            return None, (Refusal(clash=Clash.DAMAGED, sentence=said),)

    def _claimant(self, kept: HostIdentity | None) -> Claimant:
        return Claimant(host=self.host, kept=kept, seat=self.seat, file=str(path_in(self.state_dir)))

    def _refusals(self, claimant: Claimant, known: KnownHost, look: HostLook) -> tuple[Refusal, ...]:
        kept = claimant.kept
        before = 0 if kept is None or kept.host == self.host else self.store.count_instances(kept.host)
        return (*paper_refusals(claimant, known, before), *look_refusals(claimant, known, look))

    def _require(self, refusals: Collection[Refusal]) -> None:
        standing = [refusal for refusal in refusals if refusal.clash not in self.overruled]
        if standing:
            raise Refused("; ".join(refusal.sentence for refusal in standing))
        for refusal in refusals:
            log.warning("identity_clash_overruled", clash=refusal.clash.value, reason=refusal.sentence)

    def _look(self) -> HostLook:
        try:
            look = self.read_look()
        except CannotAsk as silence:
            raise Refused(
                f"it must be known which guests are here before this machine is taken for host {self.host}, and that can't"
                f" be asked: {silence}"
            ) from silence
        hosts = self.store.list_hosts_of(guest.id for guest in look.guests)
        return replace(look, guests=tuple(replace(guest, recorded_on=hosts.get(guest.id)) for guest in look.guests))

    def _require_not_elsewhere(self, claimant: Claimant, known: KnownHost) -> None:
        """No other machine's node is heard of under this name. A heartbeat that nobody renews is a dead node's, and lapses."""
        suspected = suspects(claimant, known, self._roles_held_here())
        if not suspected:
            return
        log.info("heartbeats_watched", host=self.host, incarnations=[beat.incarnation for beat in suspected])
        deadline = time.monotonic() + self.beats_limit_s + 2 * BEAT_LOOK_S
        while suspected:
            if time.monotonic() > deadline:  # its time to live is longer than ours would be: somebody else wrote it
                raise Refused(alive_refusal(claimant, known).sentence)
            time.sleep(BEAT_LOOK_S)
            now = self.store.read(self.host)
            if now.text != known.text:
                raise StoreConflict(f"host {self.host} was registered meanwhile")
            if any(is_renewed(beat, now.beats) for beat in suspected):
                raise Refused(alive_refusal(claimant, known).sentence)
            suspected = suspects(claimant, now, self._roles_held_here())

    def _roles_held_here(self) -> frozenset[Role]:
        """Roles that another process over this state directory plays at this moment: what is heard of them comes from here."""
        return frozenset(role for role in Role if self._is_held(role))

    def _is_held(self, role: Role) -> bool:
        if role in self.roles:
            return False  # by us: what is heard of it is not of this process, and our former self is dead
        descriptor = open_lock(lock_path(self.state_dir, self.host, role))
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def _settled(self, kept: HostIdentity | None, known: KnownHost, look: HostLook) -> HostIdentity:
        """File first, then store, then the file says that the store knows."""
        wanted = self._wanted(kept, look)
        if kept is None and not self.overruled:
            found = create_identity(self.state_dir, wanted)
            if found.id != wanted.id:
                raise StoreConflict(f"the identity of host {self.host} was made meanwhile")
        else:
            replace_identity(self.state_dir, wanted)
        record = IdentityRecord(
            id=wanted.id, seat=self.seat, hypervisor_id=wanted.hypervisor_id, registered_at=time.time()
        )
        self.store.register(self.host, record, known)
        registered = replace(wanted, registered=True)
        replace_identity(self.state_dir, registered)
        log.info("identity_registered", host=self.host, identity=wanted.id, was_known=known.record is not None)
        return registered

    def _wanted(self, kept: HostIdentity | None, look: HostLook) -> HostIdentity:
        """The identity kept, as far as it still holds; a new one for who has none, or is to be another host."""
        if kept is None or kept.host != self.host:
            return HostIdentity(
                id=str(uuid4()),
                host=self.host,
                machine_id=self.seat.machine_id,
                hypervisor_id=look.hypervisor_id,
                created_at=time.time(),
            )
        return replace(kept, machine_id=self.seat.machine_id, hypervisor_id=look.hypervisor_id or kept.hypervisor_id)
