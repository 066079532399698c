"""Bad input about networks and ports, typed at the command line of a host where everything is real: each is refused with field,
value and rule, and no link of the host is touched by it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskvisor.cli.app import app
from taskvisor.settings import read_settings
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.net.lan import no_link_is_touched
from tests.system.nodes import PREFIX, Nodes, running_nodes

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

MAC = "52:54:00:00:00:11"
RULES = tuple(word for port in range(1, 302) for word in ("--rule", f"in,protocol=tcp,ports={port}"))
THERE = (
    "network create lab --kind vxlan --segment 7 --cidr 10.5.0.0/24 --cidr6 fd00:5::/64",
    "network create tagged --kind vlan --physical lan --segment 7 --cidr 10.6.0.0/24",
    "network create tiny --cidr 10.8.0.0/30",
    "network create roomy --cidr 10.9.0.0/24",
    "network create nowhere --kind flat --physical elsewhere --cidr 10.10.0.0/24",
    "network create unplugged --kind flat --physical gone --cidr 10.11.0.0/24",
    "network create bridgeless --kind existing --bridge br-none --cidr 10.12.0.0/24",
    f"launch IMAGE -n one --network tiny --network roomy,mac={MAC},address=10.9.0.9",
)
REFUSED = {
    "network create new --cidr 10.5.0.0/16": "cidr: 10.5.0.0/16 overlaps 10.5.0.0/24 of network 'lab', and hosts hold",
    "network create new --cidr 10.13.0.0/24 --cidr6 fd00:5::/64": "cidr6: fd00:5::/64 overlaps fd00:5::/64 of network 'lab'",
    "network create new --cidr 10.13.0.1/24": "cidr: '10.13.0.1/24': has bits beyond its prefix; 10.13.0.0/24 may be meant",
    "network create new --cidr 10.13.0.0/24 --gateway 10.14.0.1": "gateway: '10.14.0.1': must be in 10.13.0.0/24",
    "network create new --kind vxlan --segment 7 --cidr 10.13.0.0/24": "segment: VNI 7 is that of network 'lab'; choose another",
    "network create new --kind vxlan --segment 16777216 --cidr 10.13.0.0/24": "segment: 16777216: input should be less than or",
    "network create new --kind vxlan --segment 0 --cidr 10.13.0.0/24": "segment: 0: input should be greater than or equal to 1",
    "network create new --kind vlan --physical lan --segment 7 --cidr 10.13.0.0/24": "segment: VLAN 7 of lan is that of network",
    "network create new --kind vlan --physical lan --segment 4095 --cidr 10.13.0.0/24": "segment: 4095: a VLAN is 1 to 4094",
    "network create new --kind existing --bridge br-of-16-bytes-x --cidr 10.13.0.0/24": (
        "bridge: 'br-of-16-bytes-x': is 16 bytes; an interface's name has at most 15"
    ),
    "launch IMAGE -n two --network tiny": "network 'tiny': all 1 addresses of 10.8.0.0/30 are taken",
    "launch IMAGE -n two --network roomy,address=10.8.0.2": (
        "address: 10.8.0.2 is not in 10.9.0.0/24, the addresses of network 'roomy'"
    ),
    "launch IMAGE -n two --network roomy,address=10.9.0.9": "address: 10.9.0.9 on network 'roomy' belongs to port",
    "launch IMAGE -n two --network roomy,address=10.9.0.255": "address: 10.9.0.255 is the network's own, its gateway's or its",
    "launch IMAGE -n two --network roomy,mac=01:00:5e:00:00:01": (
        "networks.0.mac: '01:00:5e:00:00:01': must be a unicast address: the first octet is even"
    ),
    f"launch IMAGE -n two --network roomy,mac={MAC}": f"mac: {MAC} on network 'roomy' belongs to port",
    "launch IMAGE -n two --network nowhere": (
        "kvm1: it has no interface on physical network elsewhere, which network nowhere is on"
    ),
    "launch IMAGE -n two --network unplugged": (
        "there is no interface eth7 on this host, which TASKVISOR_PHYSICAL_NETWORKS names; correct it, or bring"
    ),
    "launch IMAGE -n two --network bridgeless": "there is no bridge br-none on this host; make it, or use another host",
    "launch IMAGE -n two --network lab": "kvm1: it has no tunnel address, which network lab needs",
    "group create web RULES": "list should have at most 300 items after validation, not 301",
}


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host that was told of an interface that it has not, and of no end of tunnels. Its guests are deleted in the end."""
    told = {"TASKVISOR_PHYSICAL_NETWORKS": "lan=lo,gone=eth7"}
    tmp_state_dir.chmod(0o755)
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri, **told) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk with nothing on it: nobody boots."""
    path = tmp_path / "empty.qcow2"
    run_or_fail(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], limit_s=60)
    return path


def typed(words: str, image: Path) -> tuple[int, str]:
    """The exit code, and what was said on standard error, in one line."""
    meant = [str(image) if word == "IMAGE" else word for word in words.split() if word != "RULES"]
    ran = CliRunner().invoke(app, [*meant, *(RULES if words.endswith("RULES") else ())], prog_name="taskvisor")
    return ran.exit_code, " ".join(ran.stderr.split())


def test_what_can_not_be_is_refused_in_words_and_no_link_is_touched(
    nodes: Nodes, image: Path, host_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKVISOR_REDIS_URL", nodes.redis_url)
    read_settings.cache_clear()
    made = {words: typed(words, image) for words in THERE}
    assert {words: text for words, (code, text) in made.items() if code != 0} == {}
    with no_link_is_touched(host_namespace, tmp_path):
        said = {words: typed(words, image) for words in REFUSED}
    for words, (code, text) in said.items():
        print(words, code, text, sep="\n    ")
    told = {words: rule in said[words][1] and said[words][0] != 0 for words, rule in REFUSED.items()}
    assert told == dict.fromkeys(REFUSED, True)
    read_settings.cache_clear()
