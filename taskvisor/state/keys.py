"""The name of every key, in one place.

| key | type | holds |
|---|---|---|
| op:<id> | hash | rev, commit (id of the last write), phase, doc (Operation as JSON) |
| ops | zset | operation ids by time of creation |
| ops:unsettled | zset | operation ids by time of last progress |
| ops:stuck | set | operations that are STUCK now |
| ops:host:<host> | set | unsettled operations whose steps run on that host |
| lease:<instance> | hash | op, token |
| instance:<id> | string | Instance as JSON |
| history:<instance> | list | moves of its states, newest first, bounded; see `history.py` |
| instances | set | instance ids |
| instances:host:<host> | set | instance ids |
| names | hash | instance name to id |
| claims:<host> | hash | instance id to amounts by kind, as JSON |
| held:<host> | hash | what one instance alone has of the host (cpu:7, pci:0000:3b:00.0, …) to its id |
| used:<host> | hash | amounts by kind (vcpus, memory_mib, disk_gib, …): the sum of the claims |
| image:<name> | string | Image as JSON |
| images | hash | image name to its id, or to the operation that makes it |
| flavor:<name> | string | FlavorRecord as JSON |
| flavors | hash | flavor name to id |
| flavors:ids | hash | flavor id to name |
| network:<id> | string | Network as JSON |
| networks | hash | network name to id |
| addresses:<network> | hash | address to port id |
| ports:<network> | hash | port id to address |
| freed:<network> | zset | addresses given back, by time |
| next:<network> | string | offset of the address given out last |
| addresses6:<network> | hash | IPv6 address to port id |
| ports6:<network> | hash | port id to IPv6 address |
| next6:<network> | string | offset of the IPv6 address given out last, where they are given out one by one |
| allocating | zset | "<network> <port> <mac>" by time: addresses given out to a request that is not yet an operation |
| macs | hash | "<network> <mac>" to port id |
| nics:<instance> | hash | id of each port that its record has to "<network> <group> …" |
| members:<network> | hash | port id to Member as JSON: of every port that is in an instance's record |
| grouped:<group> | hash | port id to "<network> <Member as JSON>": likewise, of those in the group |
| group:<id> | string | SecurityGroup as JSON |
| groups | hash | id of each security group to its name |
| remotes | hash | id of a security group to those of the groups that its rules name as remote |
| floating | hash | id of each floating address to the address |
| floating:bound | hash | floating id to "<port> <instance>" |
| floating:ports | hash | port id to floating id |
| revisions | hash | how often "networks", "groups", "flavors", "aggregates" and "hosts" have changed: who decides finds out |
| volume:<identity> | hash | id of each instance that holds the volume to "alone" or "shared" |
| hosts | set | every host that ever reported |
| host:<host> | hash | what it has and when it said so, who it is, and what operators said of it: see `HOST_FIELDS` |
| hosts:moved | zset | each host by when it last changed, in numbers of `revisions`, field "hosts" |
| aggregates | hash | aggregate name to Aggregate as JSON |
| server_group:<id> | string | ServerGroup as JSON |
| server_groups | hash | server group name to id |
| servers:<group> | hash | id of each instance in the server group to the host that it is on |
| why:<op> | string | Explanation (JSON) of a build that no host could take; expires |
| drain:<host> | string | Drain as JSON: the last one of that host |
| drains | set | hosts whose drain is still to be carried on |
| host_events:<host> | list | HostEvent as JSON, the newest first, bounded |
| alive:<host> | string | the node's incarnation; expires when the host falls silent |
| taking:<host> | string | incarnation of the host's node that takes requests; expires when it falls silent |
| listening:<host> | string | 1 or 0: whether events of the host's guests are heard; expires when its control node falls silent |
| events | stream | every change of state, bounded |
| webhooks | hash | digest of each webhook's URL to its Standing as JSON |
| webhook:turn:<digest> | string | token of the sender that delivers to the URL now; expires when it falls silent |
| webhook_log | list | Undelivered as JSON, the newest first, bounded |
| progress:<op> | string | how far a long step has come; expires |
| tick:turn:<task> | string | token of the run of a periodic task of the fleet that goes on; expires with its time limit |
| tick:soon:<task> | string | it was begun within the last half of its period; expires |
| tick:slices | hash | periodic task to how many slices of hosts it was sent to |
| tick:last:<host> | hash | periodic task to its last Run there as JSON |
| tick:runs:<host>:<task> | list | its last runs there, the latest first, bounded |
| trace:<op> | string | the trace of its caller that an operation belongs to; expires |
| waited:<task> | hash | id of what a periodic task waits for to "<seconds waited> <time last seen>" |
| silent | hash | host that has fallen silent to when that was noticed |
| series:names | hash | digest of a list of metrics' names to the list, as JSON |
| series:host:<host> | list | samples of a host, the latest first, bounded; expires |
| series:instance:<id> | list | likewise of an instance |
| usage | stream | what each instance had in each period that was audited, bounded |
| usage:period:<host> | string | number of the period that was audited last |
| counters | hash | a counter's name and labels to how often; see `counters.py` |
| birth | hash | id of this store, made once; ticks:<host>: how often the host has asked for it |
| orphans:<host> | hash | kind and name of each thing of the host that no record is of to Orphan as JSON |
| closed | string | why the store takes no requests, or that somebody opened it; see `closing.py` |
| schema | string | version of all of the above |
"""

from dataclasses import dataclass

HOST_FIELDS = (
    "inventory",
    "reported_at",
    "power_synced_at",
    "identity",
    "recovered_boot",
    "disabled",
    "failed_builds",
    "labels",
    "forced_down",
    "draining",
)
"""Of the hash `host:<host>`; inventory, labels and forced_down are JSON."""

AGGREGATES, HOSTS = "aggregates", "hosts"
"""Fields of `revisions`."""


@dataclass(frozen=True)
class Keys:
    """Key names under one prefix."""

    prefix: str

    def operation(self, operation_id: str) -> str:
        return f"{self.prefix}op:{operation_id}"

    def trace(self, operation_id: str) -> str:
        return f"{self.prefix}trace:{operation_id}"

    @property
    def operations(self) -> str:
        return f"{self.prefix}ops"

    @property
    def unsettled(self) -> str:
        return f"{self.prefix}ops:unsettled"

    @property
    def stuck(self) -> str:
        return f"{self.prefix}ops:stuck"

    def operations_on(self, host: str) -> str:
        return f"{self.prefix}ops:host:{host}"

    def lease(self, instance_id: str) -> str:
        return f"{self.prefix}lease:{instance_id}"

    def instance(self, instance_id: str) -> str:
        return f"{self.prefix}instance:{instance_id}"

    def history(self, instance_id: str) -> str:
        return f"{self.prefix}history:{instance_id}"

    @property
    def instances(self) -> str:
        return f"{self.prefix}instances"

    def instances_on(self, host: str) -> str:
        return f"{self.prefix}instances:host:{host}"

    @property
    def names(self) -> str:
        return f"{self.prefix}names"

    def claims(self, host: str) -> str:
        return f"{self.prefix}claims:{host}"

    def held(self, host: str) -> str:
        return f"{self.prefix}held:{host}"

    def used(self, host: str) -> str:
        return f"{self.prefix}used:{host}"

    def image(self, name: str) -> str:
        return f"{self.prefix}image:{name}"

    @property
    def images(self) -> str:
        return f"{self.prefix}images"

    def flavor(self, name: str) -> str:
        return f"{self.prefix}flavor:{name}"

    @property
    def flavors(self) -> str:
        return f"{self.prefix}flavors"

    @property
    def flavor_ids(self) -> str:
        return f"{self.prefix}flavors:ids"

    def network(self, network_id: str) -> str:
        return f"{self.prefix}network:{network_id}"

    @property
    def networks(self) -> str:
        return f"{self.prefix}networks"

    def addresses(self, network_id: str) -> str:
        return f"{self.prefix}addresses:{network_id}"

    def ports(self, network_id: str) -> str:
        return f"{self.prefix}ports:{network_id}"

    def freed(self, network_id: str) -> str:
        return f"{self.prefix}freed:{network_id}"

    def next_address(self, network_id: str) -> str:
        return f"{self.prefix}next:{network_id}"

    def addresses6(self, network_id: str) -> str:
        return f"{self.prefix}addresses6:{network_id}"

    def ports6(self, network_id: str) -> str:
        return f"{self.prefix}ports6:{network_id}"

    def next_address6(self, network_id: str) -> str:
        return f"{self.prefix}next6:{network_id}"

    @property
    def allocating(self) -> str:
        return f"{self.prefix}allocating"

    @property
    def macs(self) -> str:
        return f"{self.prefix}macs"

    def nics(self, instance_id: str) -> str:
        return f"{self.prefix}nics:{instance_id}"

    def members(self, network_id: str) -> str:
        return f"{self.prefix}members:{network_id}"

    def grouped(self, group_id: str) -> str:
        return f"{self.prefix}grouped:{group_id}"

    def group(self, group_id: str) -> str:
        return f"{self.prefix}group:{group_id}"

    @property
    def groups(self) -> str:
        return f"{self.prefix}groups"

    @property
    def remotes(self) -> str:
        return f"{self.prefix}remotes"

    @property
    def floating(self) -> str:
        return f"{self.prefix}floating"

    @property
    def floating_bound(self) -> str:
        return f"{self.prefix}floating:bound"

    @property
    def floating_ports(self) -> str:
        return f"{self.prefix}floating:ports"

    @property
    def revisions(self) -> str:
        return f"{self.prefix}revisions"

    def volume(self, identity: str) -> str:
        return f"{self.prefix}volume:{identity}"

    @property
    def hosts(self) -> str:
        return f"{self.prefix}hosts"

    def host(self, host: str) -> str:
        return f"{self.prefix}host:{host}"

    @property
    def hosts_moved(self) -> str:
        return f"{self.prefix}hosts:moved"

    @property
    def aggregates(self) -> str:
        return f"{self.prefix}aggregates"

    def server_group(self, group_id: str) -> str:
        return f"{self.prefix}server_group:{group_id}"

    @property
    def server_groups(self) -> str:
        return f"{self.prefix}server_groups"

    def servers(self, group_id: str) -> str:
        return f"{self.prefix}servers:{group_id}"

    def why(self, operation_id: str) -> str:
        return f"{self.prefix}why:{operation_id}"

    def alive(self, host: str) -> str:
        return f"{self.prefix}alive:{host}"

    def taking(self, host: str) -> str:
        return f"{self.prefix}taking:{host}"

    def listening(self, host: str) -> str:
        return f"{self.prefix}listening:{host}"

    def drain(self, host: str) -> str:
        return f"{self.prefix}drain:{host}"

    @property
    def drains(self) -> str:
        return f"{self.prefix}drains"

    def host_events(self, host: str) -> str:
        return f"{self.prefix}host_events:{host}"

    def of_host(self, host: str) -> tuple[str, ...]:
        """Every key that is one host's alone. Who adds another kind adds it here: it goes when the host is removed."""
        records = (self.operations_on, self.instances_on, self.claims, self.used, self.held, self.host)
        kept = (self.drain, self.host_events, self.orphans, self.tick_last, self.series_of_host, self.usage_period)
        return tuple(kind(host) for kind in (*records, *kept, self.alive, self.taking, self.listening))

    @property
    def events(self) -> str:
        return f"{self.prefix}events"

    @property
    def webhooks(self) -> str:
        return f"{self.prefix}webhooks"

    def webhook_turn(self, key: str) -> str:
        return f"{self.prefix}webhook:turn:{key}"

    @property
    def webhook_log(self) -> str:
        return f"{self.prefix}webhook_log"

    def progress(self, operation_id: str) -> str:
        return f"{self.prefix}progress:{operation_id}"

    def tick_turn(self, task: str) -> str:
        return f"{self.prefix}tick:turn:{task}"

    def tick_soon(self, task: str) -> str:
        return f"{self.prefix}tick:soon:{task}"

    @property
    def tick_slices(self) -> str:
        return f"{self.prefix}tick:slices"

    def tick_last(self, host: str) -> str:
        return f"{self.prefix}tick:last:{host}"

    def tick_runs(self, host: str, task: str) -> str:
        return f"{self.prefix}tick:runs:{host}:{task}"

    def waited(self, task: str) -> str:
        return f"{self.prefix}waited:{task}"

    @property
    def silent(self) -> str:
        return f"{self.prefix}silent"

    @property
    def series_names(self) -> str:
        return f"{self.prefix}series:names"

    def series_of_host(self, host: str) -> str:
        return f"{self.prefix}series:host:{host}"

    def series_of_instance(self, instance_id: str) -> str:
        return f"{self.prefix}series:instance:{instance_id}"

    @property
    def usage(self) -> str:
        return f"{self.prefix}usage"

    def usage_period(self, host: str) -> str:
        return f"{self.prefix}usage:period:{host}"

    @property
    def counters(self) -> str:
        return f"{self.prefix}counters"

    @property
    def birth(self) -> str:
        return f"{self.prefix}birth"

    def orphans(self, host: str) -> str:
        return f"{self.prefix}orphans:{host}"

    @property
    def closed(self) -> str:
        return f"{self.prefix}closed"

    @property
    def schema(self) -> str:
        return f"{self.prefix}schema"
