"""What a host was told of its networks, as files: whole or not there, and one that can't be read hides no other."""

from pathlib import Path

from net.kept_surroundings import KeptSurroundings
from taskvisor.model.network import Surroundings
from tests.net.plans import member, network

RED, BLUE = network(8), network(9)


def test_a_file_that_can_not_be_read_is_told_and_hides_no_other(tmp_path: Path) -> None:
    kept = KeptSurroundings(tmp_path / "surroundings")
    kept.ensure_kept(Surroundings(network=RED))
    kept.ensure_kept(Surroundings(network=BLUE))
    broken = tmp_path / "surroundings" / f"{RED.id}.json"
    broken.write_bytes(b"{")

    found = {copy.network_id: copy for copy in kept.list_all()}

    assert found[BLUE.id].around == Surroundings(network=BLUE)
    assert found[RED.id].around is None
    assert f"{broken} can't be read" in str(found[RED.id].problem)
    assert kept.ports_of(RED.id) == frozenset()


def test_what_is_told_anew_mends_it(tmp_path: Path) -> None:
    kept = KeptSurroundings(tmp_path / "surroundings")
    around = Surroundings(network=RED, members=(member(0, RED, "here"),))
    kept.ensure_kept(around)
    (tmp_path / "surroundings" / f"{RED.id}.json").write_bytes(b"")

    kept.ensure_kept(around)

    assert [copy.around for copy in kept.list_all()] == [around]
    assert kept.ports_of(RED.id) == {around.members[0].port_id}


def test_what_a_dead_writer_left_is_neither_listed_nor_left(tmp_path: Path) -> None:
    kept = KeptSurroundings(tmp_path / "surroundings")
    kept.ensure_kept(Surroundings(network=RED))
    (tmp_path / "surroundings" / f"{RED.id}.new").write_bytes(b"{")

    assert len(kept.list_all()) == 1
    kept.ensure_gone(RED.id)
    assert list((tmp_path / "surroundings").iterdir()) == []


def test_a_host_that_was_told_nothing_keeps_nothing(tmp_path: Path) -> None:
    assert KeptSurroundings(tmp_path / "surroundings").list_all() == ()
