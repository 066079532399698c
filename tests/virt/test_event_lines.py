"""What one end writes the other reads, and nothing else."""

import pytest

from taskvisor.model.errors import Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import Deaf, GuestEvent, Hearing, LifecycleChange, Missed, Said
from virt.event_lines import line_for, parse_line

GUEST = InstanceId("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


@pytest.mark.parametrize(
    "said",
    [
        *(GuestEvent(instance_id=GUEST, change=change, detail="unpaused") for change in LifecycleChange),
        Hearing(),
        Deaf(reason='libvirtd is "away"\nfor long'),
        Missed(events=3),
    ],
)
def test_what_is_said_is_one_line_and_is_read_as_it_was_said(said: Said) -> None:
    line = line_for(said)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_line(line) == said


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff\xfe", b"Traceback (most recent call last):", b"{}", b"[]", b'["guest"]', b'["guest", "a", "b", "c"]'],
)
def test_what_is_no_line_of_ours_ends_who_wrote_it(line: bytes) -> None:
    with pytest.raises(Retryable, match="no line of its own"):
        parse_line(line)
