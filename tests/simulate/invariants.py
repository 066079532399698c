"""What must hold after every event, whatever is under way: one owner for each thing, one running domain for each instance.

Must never ask through the product's own readers, nor through the calls that faults befall.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tasks.flows import FLOWS
from tasks.verify import host_seen
from taskvisor.model.ids import HostName, OperationId, image_id_for
from taskvisor.model.observed import HostSeen
from taskvisor.model.states import PowerState
from tests.simulate.callers import SHARED
from tests.simulate.disturbance import Disturbance
from tests.simulate.excuses import Excuses
from tests.simulate.post import Message
from tests.simulate.records import PREFIX, Records, Seen
from tests.support.fleet import Fleet
from virt.volumes.host_state import digest_of

OPEN = ("running", "rolling_back", "waiting")


class Invariants:
    """Asks them of one fleet, and remembers what callers were told and what a crash of Redis excuses."""

    def __init__(self, fleet: Fleet, url: str, disturbance: Disturbance) -> None:
        self._fleet = fleet
        self._disturbance = disturbance
        self._records = Records(url)
        self._told: set[str] = set()
        self.excuses = Excuses()
        self.seen = self._records.read()
        self._hosts = {host.name: self._look_at(host.name) for host in fleet.hosts.values()}
        self._disks: dict[HostName, Mapping[str, Mapping[str, str]]] = {}

    def require(self) -> None:
        """AssertionError with the invariant that does not hold."""
        self.seen = seen = self._records.read()
        for name in self._disturbance.take_touched():
            self._hosts[name] = self._look_at(name)
            self._disks[name] = self._fleet.hosts[name].outsider.list_disks()
        self._require_alone()
        self._require_one_running()
        self._require_owners(seen)
        _require_claims(seen)
        _require_names(seen)
        _require_leases(seen)
        _require_addresses(seen)
        _require_holds(seen)
        self._require_volumes_alone()
        self._require_told(seen)

    def read_all(self) -> Seen:
        """The records with the documents of all operations."""
        return self._records.read("all")

    def list_unsettled(self) -> list[str]:
        return sorted(operation for operation, phase in self.seen.phases.items() if phase in OPEN)

    def list_going_images(self) -> list[str]:
        """Images whose file is still to be removed."""
        return sorted(name for name, image in self.seen.image_records.items() if image.get("deletion"))

    def time_limit_s(self, message: Message) -> float:
        """Of the step that the message asks for."""
        document = self.seen.operations.get(message.subject)
        flow = FLOWS[document["flow"]] if document else None
        known = flow is not None and message.steps[0] in (step.name for step in flow.steps)
        return flow.step(message.steps[0]).time_limit_s if flow is not None and known else float("inf")

    def excuse(self, changed: Iterable[str], lost: Seen) -> list[str]:
        """A crash has set back what these keys are about, and that was lost. Returns the operations among them, for the story."""
        operations = self.excuses.add(changed, lost)
        self._told -= operations
        return sorted(operations)

    def note_heartbeat(self, host: str, incarnation: str) -> None:
        """As the heartbeat of both nodes of a host; by no clock but the simulation's."""
        self._records.client.set(f"{PREFIX}alive:{host}", incarnation)
        self._records.client.set(f"{PREFIX}taking:{host}", incarnation)

    def forget_heartbeat(self, host: str) -> None:
        self._records.client.delete(f"{PREFIX}alive:{host}", f"{PREFIX}taking:{host}")

    def close(self) -> None:
        self._records.client.close()

    def _require_alone(self) -> None:
        for instance_id, host, other in self._disturbance.crowded:
            fit = host != other and self.excuses.of(instance_id)
            assert fit, f"instance {instance_id} is being changed by two processes at once, on {host} and {other}"

    def _require_one_running(self) -> None:
        running: dict[str, list[str]] = defaultdict(list)
        for name, found in self._hosts.items():
            for domain in found.domains:
                if domain.power_state is PowerState.RUNNING:
                    running[domain.instance_id].append(name)
        for instance_id, hosts in running.items():
            assert len(hosts) == 1 or self.excuses.of(instance_id), f"instance {instance_id} runs on {hosts}"

    def _require_volumes_alone(self) -> None:
        """A volume that is not shareable is in one domain only, on all hosts together."""
        having: dict[str, set[str]] = defaultdict(set)
        for domains in self._disks.values():
            for instance_id, disks in domains.items():
                for path in disks.values():
                    if "/volumes/connected/" in path and not self.excuses.of(instance_id):
                        having[path.rpartition("/")[2]].add(instance_id)
        for digest, instances in having.items():
            fit = len(instances) == 1 or digest == digest_of(SHARED)
            assert fit, f"volume {digest} is in the domains of {sorted(instances)}"

    def _require_owners(self, seen: Seen) -> None:
        images = {record["id"] for record in seen.image_records.values()}
        images |= {image_id_for(OperationId(operation)) for operation in seen.operations}
        addresses = {port["mac"]: port["address"] for one in seen.instances.values() for port in one["ports"]}
        ports = {port["id"] for one in seen.instances.values() for port in one["ports"]}
        for name, found in self._hosts.items():
            for what, owner in _owned(found):
                if not self.excuses.of(owner):
                    there = seen.instances.get(owner)
                    assert there is not None, f"{what} on {name} has no owner: no instance {owner}"
                    assert there["host"] == name, f"{what} is on {name}, its instance on {there['host']}"
            for link in found.links:
                fit = link.port_id in ports or self.excuses.of(link.instance_id)
                assert fit, f"link {link.name} on {name} is of port {link.port_id}, which nobody has"
            for entry in found.dhcp:
                fit = addresses.get(entry.mac) == entry.address or self.excuses.of(entry.mac)
                assert fit, f"DHCP on {name} tells {entry.mac} {entry.address}, which is nobody's"
            for volume in found.volumes:
                there = seen.instances.get(volume.instance_id)
                fit = there is not None and there["host"] == name
                assert fit or self.excuses.of(volume.instance_id), f"{name} is connected to {volume} for nobody"
            for image in found.images:
                fit = image.image_id in images or self.excuses.of(image.image_id)
                assert fit, f"image {image.image_id} on {name} is nobody's"

    def _look_at(self, name: HostName) -> HostSeen:
        return host_seen(self._fleet.hosts[name].ports, self._fleet.clock.now())

    def _require_told(self, seen: Seen) -> None:
        for operation in sorted(self._told):
            now = seen.results.get(operation)
            assert now == "SUCCESS", f"the caller of {operation} was told SUCCESS and now sees {now}"
        for operation, result in seen.results.items():
            phase = seen.phases.get(operation)
            if result == "SUCCESS" and phase is not None:  # else nothing was to be done
                assert phase == "succeeded", f"the caller of {operation} was told SUCCESS, and it is {phase}"
                self._told.add(operation)


def _owned(found: HostSeen) -> Iterable[tuple[str, str]]:
    for domain in found.domains:
        yield f"domain {domain.name}", domain.instance_id
    for directory in found.directories:
        yield f"directory {directory}", directory
    for link in found.links:
        yield f"link {link.name}", link.instance_id


def _require_claims(seen: Seen) -> None:
    for host, claims in seen.claims.items():
        limits = seen.hosts[host]["limits"] if seen.hosts.get(host) else None
        for kind in ("vcpus", "memory_mib", "disk_gib"):
            claimed, used = sum(claim[kind] for claim in claims.values()), seen.used.get(host, {}).get(kind, 0)
            assert claimed == used, f"{host}: {used} of {kind} are used, the claims come to {claimed}"
            assert limits is None or used <= limits[kind], f"{host}: {used} of {kind} used, {limits[kind]} may be"
        for owner in claims:
            there = seen.instances.get(owner, {}).get("host")
            assert there == host, f"claim on {host} of {owner}, which is on {there}"
    for instance_id, instance in seen.instances.items():
        claims = seen.claims.get(instance["host"], {})
        assert instance_id in claims, f"instance {instance['name']} has no claim on {instance['host']}"
    for host, amounts in seen.used.items():
        assert host in seen.claims or not any(amounts.values()), f"{host}: {amounts} used without a claim"


def _require_names(seen: Seen) -> None:
    for name, instance_id in seen.names.items():
        there = seen.instances.get(instance_id, {}).get("name")
        assert there == name, f"name {name} is {instance_id}'s, whose own is {there}"
    for instance_id, instance in seen.instances.items():
        assert seen.names.get(instance["name"]) == instance_id, f"{instance['name']} is not {instance_id}'s name"
    for name, owner in seen.images.items():
        registered = name in seen.image_records and seen.image_records[name]["id"] == owner
        assert registered or owner in seen.operations, f"image name {name} is kept for {owner}, which is not open"


def _require_leases(seen: Seen) -> None:
    for instance_id, lease in seen.leases.items():
        holder = seen.operations.get(lease.get("op", ""))
        assert holder is not None, f"lease of {instance_id} is {lease.get('op')}'s, which has ended"
        assert holder["instance_id"] == instance_id, f"lease of {instance_id} is of an operation on another instance"
        assert int(lease["token"]) == holder["token"], f"lease of {instance_id} has token {lease['token']}"
    for name, operation in seen.operations.items():
        held = seen.leases.get(operation["instance_id"], {}).get("op") == name
        waits = operation["phase"] == "waiting"
        assert held != waits, f"operation {name} is {operation['phase']}, holds its instance: {held}"
        assert operation["instance_id"] in seen.instances, f"operation {name} is open, its instance is gone"
        if waits:
            holder = seen.operations.get(seen.leases.get(operation["instance_id"], {}).get("op", ""))
            assert holder is not None, f"operation {name} waits for nobody"
            assert holder.get("preempted_by") == name, f"operation {name} waits, its holder does not know"
    opened = {name for name, operation in seen.operations.items() if operation["phase"] != "stuck"}
    assert opened == seen.unsettled, f"unsettled are {sorted(opened)}, listed {sorted(seen.unsettled)}"


def _require_holds(seen: Seen) -> None:
    wanted = {
        (volume["source"], instance_id)
        for instance_id, instance in seen.instances.items()
        for volume in instance.get("volumes", [])
    }
    held = {(source, holder) for source, holders in seen.volumes.items() for holder in holders}
    assert held == wanted, f"volumes are held as {sorted(held - wanted)} and should be as {sorted(wanted - held)}"
    for source, holders in seen.volumes.items():
        alone = len(holders) == 1 or set(holders.values()) == {"shared"}
        assert alone, f"volume {source} is held by {holders}"


def _require_addresses(seen: Seen) -> None:
    for (network, address), port in seen.addresses.items():
        assert seen.ports.get((network, port)) == address, f"address {address} is {port}'s, which does not know"
    for (network, port), address in seen.ports.items():
        assert seen.addresses.get((network, address)) == port, f"port {port} has {address}, which is another's"
    owned = {(port["network_id"], port["id"]): port for one in seen.instances.values() for port in one["ports"]}
    for key, port in owned.items():
        assert seen.ports.get(key) == port["address"], f"{port['address']} is an instance's and free"
        assert seen.macs.get(f"{key[0]} {port['mac']}") == port["id"], f"{port['mac']} is an instance's and free"
        assert port["id"] not in seen.allocating, f"port {port['id']} is an instance's and noted as allocated"
    for key in seen.ports:
        assert key in owned or key[1] in seen.allocating, f"port {key[1]} is no instance's"
    for mac, owner in seen.macs.items():
        assert (mac.split(" ")[0], owner) in seen.ports, f"MAC {mac} is {owner}'s, which is not there"
