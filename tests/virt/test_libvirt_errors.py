"""Every error code of libvirt's has a reaction, and somebody has thought about it. See test_connection.py for the errors made."""

import libvirt
import pytest

from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable, TaskvisorError
from virt.libvirt_errors import REACTIONS, Reaction, model_error_for

LEVELS = {"VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR"}
"""Of virErrorLevel, which libvirt-python puts beside the codes."""
CLASSES = {
    Reaction.CANNOT_ASK: CannotAsk,
    Reaction.REJECTED: Refused,
    Reaction.NO_MEMORY: DoesNotFit,
    Reaction.HELD: Retryable,
    Reaction.AGAIN: Retryable,
}
NEWER = {"VIR_ERR_NO_NETWORK_METADATA", "VIR_ERR_AGENT_COMMAND_TIMEOUT", "VIR_ERR_AGENT_COMMAND_FAILED"}
"""Of libvirt 9.7 and 11.2: what libvirt-python was built against may be older."""


def codes() -> set[str]:
    return {
        name for name, value in vars(libvirt).items() if name.startswith("VIR_ERR_") and isinstance(value, int)
    } - LEVELS


def error_of(code: int, message: str = "said libvirt") -> libvirt.libvirtError:
    error = libvirt.libvirtError(message)
    error.err = (code, libvirt.VIR_FROM_QEMU, message, 2, None, None, None, 0, 0)
    return error


def test_no_code_of_this_libvirt_is_without_a_reaction() -> None:
    assert codes() - REACTIONS.keys() == set(), "a newer libvirt: decide what they mean in virt/libvirt_errors.py"


def test_no_reaction_is_to_a_code_that_there_is_not() -> None:
    assert REACTIONS.keys() - codes() <= NEWER


def test_each_reaction_has_its_reason() -> None:
    assert [name for name, (_, reason) in REACTIONS.items() if not reason.strip()] == []


@pytest.mark.parametrize("name", sorted(codes()))
def test_a_code_becomes_the_error_of_its_reaction(name: str) -> None:
    made = model_error_for(error_of(getattr(libvirt, name)), "do it")
    assert type(made) is CLASSES[REACTIONS[name][0]]
    assert str(made).startswith("cannot do it")
    assert "said libvirt" in str(made)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, "ram: Cannot allocate memory", DoesNotFit),
        (libvirt.VIR_ERR_XML_ERROR, "Cannot allocate memory, says the XML", Refused),
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, "no answer", Retryable),
        (libvirt.VIR_ERR_AUTH_FAILED, "polkit said no", CannotAsk),
    ],
)
def test_what_is_said_matters_only_where_the_code_says_little(
    code: int, message: str, expected: type[TaskvisorError]
) -> None:
    assert type(model_error_for(error_of(code, message), "do it")) is expected
