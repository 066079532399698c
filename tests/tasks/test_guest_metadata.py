"""What the steps have a host's metadata service say to its guests."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from net.simulated import SimulatedNeighbour
from tasks.guest_metadata import ensure_guest_told
from tasks.guest_plans import vifs_of
from taskvisor.flow.ports import Ports
from taskvisor.model.ids import HostName
from taskvisor.model.records import Instance
from tests.support.fleet import Fleet
from virt.seeds.vendor_data import VendorDataFile

H1 = HostName("h1")


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A guest on its host, as a step sees it."""

    instance: Instance
    ports: Ports


def guest_of(fleet: Fleet) -> Guest:
    return Guest(instance=fleet.instance(), ports=fleet.hosts[H1].ports)


def told_to(fleet: Fleet) -> dict[str, str]:
    (vif,) = vifs_of(guest_of(fleet))
    return dict(SimulatedNeighbour(fleet.hosts[H1].root).read_told(vif.tap))


def test_a_built_guest_is_told_who_it_is(fleet: Fleet) -> None:
    fleet.build("web", metadata={"role": "front"}, ssh_keys=["ssh-ed25519 AAAA me"], user_data="#!/bin/sh\n")
    told = told_to(fleet)
    assert json.loads(told["openstack/latest/meta_data.json"])["meta"] == {"role": "front"}
    assert told["openstack/latest/user_data"] == told["latest/user-data"] == "#!/bin/sh\n"
    assert told["latest/meta-data/instance-id"] == fleet.instance().id
    assert told["latest/meta-data/local-ipv4"] == fleet.instance().ports[0].address
    assert told["latest/meta-data/public-keys/0/openssh-key"] == "ssh-ed25519 AAAA me"


def test_what_cant_be_known_now_leaves_a_guest_with_what_it_was_told(fleet: Fleet, tmp_path: Path) -> None:
    fleet.build("web", user_data="#!/bin/sh\n")
    before, guest = told_to(fleet), guest_of(fleet)
    unreadable = replace(guest.ports, vendor_data=VendorDataFile(tmp_path / "gone"))
    rebuilt = replace(guest.instance, seed_known=False, user_data=None)
    for other in (replace(guest, ports=unreadable), replace(guest, instance=rebuilt)):
        ensure_guest_told(other, vifs_of(guest))
        assert told_to(fleet) == before
    assert before


def test_on_a_host_without_the_service_it_is_told_nothing_from_its_next_start_on(fleet: Fleet) -> None:
    fleet.build("web")
    assert told_to(fleet)
    guest = guest_of(fleet)
    limits = replace(guest.ports.limits, metadata_service=False)
    ensure_guest_told(replace(guest, ports=replace(guest.ports, limits=limits)), vifs_of(guest))
    assert told_to(fleet) == {}
