"""Freezing and thawing on libvirt's own test driver, with an agent that a test makes. A real one is in test_quiesce_qemu."""

from collections.abc import Iterator

import libvirt
import pytest

from taskvisor.model.errors import Refused, Retryable
from taskvisor.model.snapshot import LiveCopy, Quiesce
from virt import quiesce
from virt.notes import Note, ensure_no_note, ensure_note, has_note
from virt.quiesce import ensure_thawed, quiesced, require_quiescible

SILENT = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_FROM_QEMU, "Guest agent is not responding")
UNWILLING = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, "unable to execute: it has been disabled")
BROKEN = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, "end of file")


class Agent:
    """What the agent of a guest was told, and which error each verb raises, so many times."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.errors: dict[str, list[tuple[int, int, str]]] = {}
        for verb in ("getTime", "fsFreeze", "fsThaw"):
            patch.setattr(libvirt.virDomain, verb, self._verb(verb))

    def _verb(self, verb: str) -> object:
        def called(_: object) -> object:
            self.told.append(verb)
            if self.errors.get(verb):
                raise error_of(*self.errors[verb].pop(0))
            return 1

        return called


def error_of(code: int, domain: int, message: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, message, "", "", 0, 0)
    return error


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.setattr(quiesce, "PAUSE_S", 0.0)
    return Agent(monkeypatch)


@pytest.fixture
def domain() -> Iterator["libvirt.virDomain"]:
    """The driver's own guest, running."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("test:///default")
    found = connection.lookupByName("test")
    yield found
    if not found.isActive():
        found.create()
    if found.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        found.resume()
    ensure_no_note(found, Note.FROZEN)
    connection.close()


def enter(domain: "libvirt.virDomain", how: Quiesce) -> LiveCopy:
    """What it says inside; whether the note was there is checked on the way."""
    with quiesced(domain, how) as copy:
        assert has_note(domain, Note.FROZEN) is copy.quiesced
        return copy


def test_a_guest_is_frozen_while_it_is_copied_and_thawed_after(agent: Agent, domain: "libvirt.virDomain") -> None:
    for how in (Quiesce.AUTO, Quiesce.REQUIRED):
        assert enter(domain, how) == LiveCopy(quiesced=True)
    assert agent.told == ["getTime", "fsFreeze", "fsThaw"] * 2
    assert not has_note(domain, Note.FROZEN)


def test_who_does_not_want_it_asks_no_agent(agent: Agent, domain: "libvirt.virDomain") -> None:
    assert enter(domain, Quiesce.NEVER) == LiveCopy(quiesced=False, why_not="it was not asked for")
    require_quiescible(domain, Quiesce.AUTO)
    assert agent.told == []


def test_an_agent_that_does_not_answer_is_not_asked_to_freeze(agent: Agent, domain: "libvirt.virDomain") -> None:
    agent.errors["getTime"] = [SILENT] * 3
    assert enter(domain, Quiesce.AUTO) == LiveCopy(quiesced=False, why_not="Guest agent is not responding")
    with pytest.raises(Refused, match="Guest agent is not responding; see that qemu-guest-agent runs"):
        enter(domain, Quiesce.REQUIRED)
    with pytest.raises(Refused, match="cannot quiesce"):
        require_quiescible(domain, Quiesce.REQUIRED)
    assert set(agent.told) == {"getTime"}


def test_a_paused_guest_is_not_asked(agent: Agent, domain: "libvirt.virDomain") -> None:
    domain.suspend()
    assert enter(domain, Quiesce.AUTO) == LiveCopy(quiesced=False, why_not="the guest is paused")
    assert agent.told == []


def test_an_agent_that_falls_silent_over_the_freeze_is_told_to_thaw(agent: Agent, domain: "libvirt.virDomain") -> None:
    agent.errors = {"fsFreeze": [SILENT], "fsThaw": [SILENT]}
    copy = enter(domain, Quiesce.AUTO)
    assert copy == LiveCopy(quiesced=False, why_not="Guest agent is not responding")
    assert agent.told == ["getTime", "fsFreeze", "fsThaw", "fsThaw"]


def test_an_agent_that_says_that_it_does_not_freeze_is_believed(agent: Agent, domain: "libvirt.virDomain") -> None:
    agent.errors["fsFreeze"] = [UNWILLING] * 2
    assert not enter(domain, Quiesce.AUTO).quiesced
    with pytest.raises(Refused, match="has been disabled"):
        enter(domain, Quiesce.REQUIRED)
    assert "fsThaw" not in agent.told
    assert not has_note(domain, Note.FROZEN)


def test_whatever_ends_the_copy_the_guest_is_thawed(agent: Agent, domain: "libvirt.virDomain") -> None:
    with pytest.raises(KeyboardInterrupt), quiesced(domain, Quiesce.AUTO):
        raise KeyboardInterrupt
    assert agent.told[-1] == "fsThaw"
    assert not has_note(domain, Note.FROZEN)


def test_a_thaw_that_fails_is_tried_again_and_then_told_and_the_note_stays(
    agent: Agent, domain: "libvirt.virDomain", monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.errors["fsThaw"] = [UNWILLING] * 3
    ensure_note(domain, Note.FROZEN)
    ensure_thawed(domain)
    assert agent.told == ["fsThaw"] * 4

    monkeypatch.setattr(quiesce, "THAW_LIMIT_S", -1.0)
    agent.errors["fsThaw"] = [SILENT]
    ensure_note(domain, Note.FROZEN)
    with pytest.raises(Retryable, match=r"cannot thaw .*run virsh domfsthaw"):
        ensure_thawed(domain)
    assert has_note(domain, Note.FROZEN)


def test_who_was_not_frozen_by_us_is_not_thawed(agent: Agent, domain: "libvirt.virDomain") -> None:
    ensure_thawed(domain)
    assert agent.told == []


def test_a_guest_that_ended_while_it_was_frozen_is_thawed_by_that(agent: Agent, domain: "libvirt.virDomain") -> None:
    with quiesced(domain, Quiesce.AUTO):
        domain.destroy()
    assert "fsThaw" not in agent.told


@pytest.mark.parametrize("verb", ["getTime", "fsFreeze", "fsThaw"])
def test_a_broken_connection_is_no_word_of_the_guest(agent: Agent, domain: "libvirt.virDomain", verb: str) -> None:
    agent.errors[verb] = [BROKEN]
    with pytest.raises(libvirt.libvirtError) as caught:
        enter(domain, Quiesce.AUTO)
    assert caught.value.get_error_message() == "end of file"
    assert has_note(domain, Note.FROZEN) == (verb != "getTime"), "whoever comes next knows that a thaw may be due"
