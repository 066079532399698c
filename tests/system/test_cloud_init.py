"""A Debian that boots with its own cloud-init, asked from inside over ssh, with everything real."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import PREFIX, Nodes, wait_until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(7200)]

BOOT_LIMIT_S = 3000.0
LOOK_LIMIT_S = 900.0
ASK_LIMIT_S = 120.0
FLAVOR = {"vcpus": 2, "memory_mib": 512, "disk_gib": 3, "swap_mib": 64, "ephemeral_gib": 1}
LAB: dict[str, Any] = {
    "name": "lab",
    "cidr": "10.153.0.0/24",
    "dns": ["10.153.0.1"],
    "mtu": 1400,
    "dhcp": False,
}
"""Where guests have no DHCP: what their cloud-init does not tell them they don't know."""

VENDOR_DATA = """#cloud-config
bootcmd:
  - [cloud-init-per, instance, vendor, sh, -c, "echo said to all >/etc/from-the-vendor"]
"""
"""Under a key that the user data do not have: theirs would take its place."""
USER_DATA = """#cloud-config
ssh_genkeytypes: [ed25519]
write_files:
  - {path: /etc/from-the-user, content: "as asked\\n"}
mounts:
  - [LABEL=ephemeral0, /data]
  - [LABEL=swap, none, swap, sw, '0', '0']
runcmd:
  - echo ran >>/var/log/once
"""
LOOK = """
import json, os, subprocess
def said(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
def text(path):
    return open(path).read().strip() if os.path.exists(path) else None
links = json.loads(said("ip", "-j", "addr"))
print(json.dumps({
    "hostname": said("hostname").strip(),
    "user": said("whoami").strip(),
    "vendor": text("/etc/from-the-vendor"),
    "asked": text("/etc/from-the-user"),
    "ran": text("/var/log/once"),
    "boot": text("/proc/sys/kernel/random/boot_id"),
    "datasource": said("cloud-init", "query", "-f", "{{v1.platform}} {{v1.subplatform}}").strip(),
    "instance": said("cloud-init", "query", "v1.instance_id").strip(),
    "mtus": {a["local"]: link["mtu"] for link in links for a in link["addr_info"] if a["family"] == "inet"},
    "names": {a["local"]: link["ifname"] for link in links for a in link["addr_info"] if a["family"] == "inet"},
    "routes": [(r["dst"], r.get("gateway")) for r in json.loads(said("ip", "-j", "route")) if r["dst"] == "default"],
    "data": said("findmnt", "-n", "-o", "FSTYPE", "/data").strip(),
    "swap": [line.split()[2] for line in open("/proc/swaps").readlines()[1:]],
    "root_gib": round(os.statvfs("/").f_frsize * os.statvfs("/").f_blocks / 2**30, 1),
    "errors": json.loads(text("/run/cloud-init/result.json"))["v1"]["errors"],
}))
"""
"""What the guest says of itself."""


class Guest:
    """A guest that is reached by ssh, with a key of the test's own and its host key as first seen."""

    def __init__(self, address: str, directory: Path) -> None:
        self.address = address
        self._directory = directory

    def run(self, command: str, *, text: str = "", limit_s: float = LOOK_LIMIT_S) -> subprocess.CompletedProcess[str]:
        options = {
            "IdentityFile": self._directory / "key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self._directory / "known_hosts",
            "StrictHostKeyChecking": "accept-new",  # and refused when it is another later
            "ConnectTimeout": "10",
            "BatchMode": "yes",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv = ["ssh", "-F", "none", *words, f"debian@{self.address}", command]
        return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=limit_s, check=False)

    def is_ready(self) -> bool:
        """cloud-init has ended. A host key that is not the first boot's fails the test."""
        try:
            said = self.run("cat /run/cloud-init/result.json", limit_s=ASK_LIMIT_S)
        except subprocess.TimeoutExpired:
            return False  # it has its hands full
        assert "HOST IDENTIFICATION HAS CHANGED" not in said.stderr
        return "datasource" in said.stdout

    def look(self) -> dict[str, Any]:
        said = self.run("sudo python3 -", text=LOOK)
        assert said.returncode == 0, said.stderr
        found: dict[str, Any] = json.loads(said.stdout)
        return found


@pytest.fixture
def vendor_data(tmp_path: Path) -> Path:
    path = tmp_path / "vendor-data"
    path.write_text(VENDOR_DATA)
    return path


@pytest.fixture
def nodes(
    libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path, vendor_data: Path
) -> Iterator[Nodes]:
    """A host whose operator has vendor data, and which has a network without DHCP beside its own."""
    running = Nodes(
        redis_url,
        tmp_state_dir,
        host="kvm1",
        driver="libvirt",
        libvirt_uri=libvirtd.uri,
        TASKVISOR_VENDOR_DATA_FILE=str(vendor_data),
    )
    try:
        running.start("steps")
        running.start("control", concurrency=1)
        running.wait_until_up()
        running.ask("network.create", **LAB)
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)
        assert list((tmp_state_dir / "instances").iterdir()) == []
    finally:
        running.stop()


@pytest.fixture
def ssh_key(tmp_path: Path) -> str:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the test", "-f", str(tmp_path / "key")]
    subprocess.run(argv, check=True, timeout=60)
    return (tmp_path / "key.pub").read_text().strip()


def wait_until_ready(nodes: Nodes, guest: Guest, instance_id: str) -> float:
    """Seconds until its cloud-init had ended."""
    console = nodes.state_dir / "instances" / instance_id / "console.log"
    began = time.monotonic()
    try:
        wait_until(guest.is_ready, "cloud-init to end", BOOT_LIMIT_S)
    except AssertionError as late:
        raise AssertionError(f"{late}; its console ends: {console.read_text(errors='replace')[-3000:]}") from None
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("config_drive", "label", "datasource"),
    [
        ("nocloud", "cidata", "nocloud config-disk"),
        ("configdrive", "config-2", "configdrive config-disk"),
        ("configdrive-vfat", "config-2", "configdrive config-disk"),
    ],
)
def test_a_guest_is_what_its_cloud_init_was_told(
    nodes: Nodes,
    debian_image: Path,
    ssh_key: str,
    tmp_path: Path,
    vendor_data: Path,
    config_drive: str,
    label: str,
    datasource: str,
    record_property: Any,
) -> None:
    built = nodes.ask(
        "instance.build",
        name="Web.Example",
        image=str(debian_image),
        flavor=FLAVOR,
        networks=["default", "lab"],
        ssh_keys=[ssh_key],
        user_data=USER_DATA,
        config_drive=config_drive,
    )
    first, second = built["addresses"]
    guest = Guest(first, tmp_path)
    record_property("boot_s", round(wait_until_ready(nodes, guest, built["id"])))

    said = guest.look()
    print(json.dumps(said, indent=1))
    assert said["errors"] == []
    assert (said["hostname"], said["user"], said["instance"]) == ("web-example", "root", built["id"])
    assert said["datasource"].startswith(datasource)
    assert (said["asked"], said["vendor"], said["ran"]) == ("as asked", "said to all", "ran")
    assert (said["mtus"][first], said["mtus"][second]) == (1500, 1400)
    assert said["routes"] == [["default", "10.152.0.1"]]
    assert said["data"] == "ext4"
    assert said["swap"] == ["65532"]
    assert said["root_gib"] > 2.5
    by_second = Guest(second, tmp_path)
    assert by_second.run("true").returncode == 0

    vendor_data.write_text(VENDOR_DATA.replace("said to all", "said later"))
    assert (
        guest.run("sync").returncode == 0
    )  # a hard reboot pulls the plug: without it the new host key may be an empty file
    nodes.ask("instance.reboot", instance="Web.Example", type="hard")
    record_property("reboot_s", round(wait_until_ready(nodes, guest, built["id"])))

    again = guest.look()
    assert again["boot"] != said["boot"]
    assert {**again, "boot": None} == {**said, "boot": None}
    mounted = f"sudo mount -o ro LABEL={label} /mnt && grep -r -c 'said later' /mnt"
    seen = guest.run(mounted)
    assert ":1" in seen.stdout, seen
