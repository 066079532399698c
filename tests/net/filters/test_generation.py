"""The kernel's count of nftables changes."""

import struct
import subprocess

import pytest

from net.filters.generation import HEADER, NFT_MSG_NEWGEN, parse_generation, read_generation
from taskvisor.model.errors import CannotAsk, DoesNotFit

FAMILY = bytes((0, 0, 0, 5))


def _answer(kind: int, rest: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(rest), kind, 0, 1, 0) + rest


def test_the_count_is_found_among_other_attributes() -> None:
    attributes = struct.pack("=HH4s", 7, 3, b"nft\0") + struct.pack("=HH", 8, 1) + struct.pack(">I", 4711)
    assert parse_generation(_answer(NFT_MSG_NEWGEN, FAMILY + attributes)) == 4711


def test_a_process_without_the_right_is_told_so() -> None:
    with pytest.raises(DoesNotFit, match="CAP_NET_ADMIN"):
        parse_generation(_answer(2, struct.pack("=i", -1)))


@pytest.mark.parametrize(
    "answer", [_answer(2, struct.pack("=i", -95)), _answer(NFT_MSG_NEWGEN, FAMILY), _answer(99, FAMILY + bytes(8))]
)
def test_any_other_answer_is_no_answer(answer: bytes) -> None:
    with pytest.raises(CannotAsk):
        parse_generation(answer)


@pytest.mark.real
def test_every_change_raises_it_and_no_look_does(host_namespace: str) -> None:
    before = read_generation()
    subprocess.run(["nft", "list ruleset"], check=True)
    subprocess.run(["nft", "-c", "add table inet other"], check=True)
    assert read_generation() == before
    subprocess.run(["nft", "add table inet other"], check=True)
    assert read_generation() != before
    subprocess.run(["nft", "delete table inet other"], check=True)
