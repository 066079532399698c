"""What must be true when all has been answered: the guests that were asked for, each once, and nothing else anywhere.

Hosts are asked by the adapters that look; processes and records are looked at as they are, without any code of ours; and
`taskvisor verify` is asked, which must come to the same.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from net.fabric import LinuxFabric
from net.plan import tap_name_for
from net.simulated import SimulatedFabric
from taskvisor.flow.ports import Disks, Fabric, Hypervisor
from taskvisor.model.ids import InstanceId
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, VmState
from taskvisor.settings import Settings, environment_for
from tests.deaths.hosts import Installation, MortalHost
from tests.fixtures.machine import ROOT
from tests.fixtures.namespaces import processes_in
from virt.disks import LocalDisks
from virt.hypervisor import LibvirtHypervisor
from virt.simulated import SimulatedDisks, SimulatedHypervisor

if TYPE_CHECKING:
    import redis

Problems = Iterator[str]
VERIFY_LIMIT_S = 60.0


def problems_of(installation: Installation, wanted: Collection[str]) -> list[str]:
    """Whatever is not as it should be when the instances of these names run, each a sentence. Asks everything once."""
    instances = installation.catalog.list_instances()
    names = Counter(instance.name for instance in instances)
    problems = [] if names == Counter(wanted) else [f"instances {sorted(names)} instead of {sorted(wanted)}"]
    problems += _records(installation, instances)
    for host in installation.hosts:
        here = {instance.id: instance for instance in instances if instance.host == host.name}
        problems += [f"{host.name}: {problem}" for problem in _on_host(host, here)]
        problems += [f"{host.name}: {name} ended unasked" for name in host.ended()]
    if installation.libvirtd is not None:
        real = [instance.id for instance in instances if instance.host == installation.hosts[0].name]
        problems += _processes(installation.libvirtd.namespace, real)
    return problems


def findings_of(installation: Installation) -> list[str]:
    """What `taskvisor verify` finds, as an operator would ask it."""
    environment = environment_for(installation.hosts[0].settings)
    said = subprocess.run(
        [sys.executable, "-m", "taskvisor.cli", "verify", "--format", "json"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=VERIFY_LIMIT_S,
        check=False,
    )
    if said.returncode not in (0, 1):
        return [f"verify ended with {said.returncode}: {said.stderr[-1000:]}"]
    return [f"verify found {finding}" for finding in json.loads(said.stdout)]


def _records(installation: Installation, instances: Collection[Instance]) -> Problems:
    client, prefix = installation.redis, installation.keys.prefix
    for instance in instances:
        if (instance.vm_state, instance.task_state, instance.fault) != (VmState.ACTIVE, None, None):
            yield f"{instance.name} is {instance.vm_state}, {instance.task_state}: {instance.fault}"
    yield from _differs("addresses", _fields(client, f"{prefix}addresses:*"), _addresses(instances))
    yield from _differs("ports", _fields(client, f"{prefix}ports:*"), _port_ids(instances))
    yield from _differs("claims", _fields(client, f"{prefix}claims:*"), [instance.id for instance in instances])
    yield from _differs("names", _fields(client, f"{prefix}names"), [instance.name for instance in instances])
    yield from _differs("leases", client.keys(f"{prefix}lease:*"), [])
    yield from _differs("unsettled operations", client.zrange(installation.keys.unsettled, 0, -1), [])
    yield from _differs("addresses being given out", client.zrange(installation.keys.allocating, 0, -1), [])
    yield from _differs("messages in flight", client.keys("*.inflight.*"), [])
    yield from _differs("dead letters", client.keys("*.dead"), [])
    yield from _differs("queues", client.keys("compute") + client.keys("host.*"), [])


def _fields(client: "redis.Redis", pattern: str) -> list[str]:
    return [str(field) for key in client.keys(pattern) for field in client.hkeys(key)]


def _on_host(host: MortalHost, instances: Mapping[InstanceId, Instance]) -> Problems:
    hypervisor, disks, fabric = _looking(host.settings)
    domains = hypervisor.list_domains()
    running = [domain.instance_id for domain in domains if domain.power_state is PowerState.RUNNING]
    yield from _differs("running domains", running, instances)
    yield from _differs("domains", [domain.instance_id for domain in domains], instances)
    yield from _differs("directories", disks.list_directories(), instances)
    yield from _differs("images in parts", [image.image_id for image in disks.list_images() if not image.complete], [])
    taps = [tap_name_for(port.id) for instance in instances.values() for port in instance.ports]
    yield from _differs("links", [link.name for link in fabric.list_links()], taps)
    yield from _differs("DHCP entries", [entry.address for entry in fabric.list_dhcp()], _addresses(instances.values()))


def _processes(namespace: str, wanted: Collection[str]) -> Problems:
    """Each guest is one QEMU process, whatever libvirt knows of it."""
    qemus = [pid for pid, command in processes_in(namespace).items() if command.startswith("qemu-system")]
    guests = [_guest_of(pid) for pid in qemus]
    yield from _differs("QEMU processes", [guest for guest in guests if guest is not None], wanted)


def _guest_of(pid: int) -> str | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has ended since it was listed
    return words[words.index("-uuid") + 1] if "-uuid" in words else f"process {pid}: {' '.join(words)[:200]}"


def _looking(settings: Settings) -> tuple[Hypervisor, Disks, Fabric]:
    if settings.driver == "simulated":
        root = settings.state_dir / "simulated"
        return SimulatedHypervisor(root), SimulatedDisks(root), SimulatedFabric(root)
    root = settings.state_dir
    return LibvirtHypervisor(settings.libvirt_uri), LocalDisks(root), LinuxFabric(root)


def _addresses(instances: Collection[Instance]) -> list[str]:
    return [port.address for instance in instances for port in instance.ports]


def _port_ids(instances: Collection[Instance]) -> list[str]:
    return [port.id for instance in instances for port in instance.ports]


def _differs(what: str, found: Collection[object], wanted: Collection[object]) -> Problems:
    """Both are counted: what is there twice is not as wanted."""
    there, due = Counter(map(str, found)), Counter(map(str, wanted))
    if there != due:
        yield f"{what}: {dict(there - due)} too many, {dict(due - there)} missing"
