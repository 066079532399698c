"""From what a build's spec says to the records it stands for: flavor, image, ports with their addresses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from net.bandwidth import require_sane
from net.plan import FILTERED_KINDS, require_filterable
from tasks.guest_wants import wants_for
from tasks.store import Store
from tasks.volume_requests import attachment_for
from taskvisor.compute.placement import Ask, ask_for
from taskvisor.compute.resources.kind import GuestWants
from taskvisor.compute.resources.table import OUR_TABLE, ResourceTable
from taskvisor.model.errors import Refused
from taskvisor.model.flavors import sized_flavor_for
from taskvisor.model.group_spec import DEFAULT_GROUP
from taskvisor.model.ids import HostName, InstanceId, PortId, mac_for, port_id_for
from taskvisor.model.image_url import image_url_for
from taskvisor.model.network import Network, Port
from taskvisor.model.records import Flavor, Image, ImageSource, Instance
from taskvisor.model.server_group import ServerGroup
from taskvisor.model.spec import BuildSpec, NicSpec
from taskvisor.model.states import PowerState, SeedKind, VmState
from taskvisor.state.addresses import Allocated
from virt.options import guest_options_for
from virt.policy.queues import queues_for
from virt.seeds.kind import seed_kind_for

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """All of a build's request that can be known before a host is chosen."""

    spec: BuildSpec
    flavor: Flavor
    source: ImageSource
    image: Image | None
    config_drive: SeedKind = SeedKind.NOCLOUD
    networks: tuple[Network, ...] = ()
    wants: GuestWants | None = None
    table: ResourceTable = OUR_TABLE
    server_group: ServerGroup | None = None

    @property
    def image_properties(self) -> Mapping[str, str]:
        """What the image needs: a registered one's own, else what was said with the request."""
        return self.spec.image_properties if self.image is None else self.image.properties

    @property
    def ask(self) -> Ask:
        """What is to be placed."""
        return ask_for(
            self.spec,
            self.flavor,
            self.image_properties,
            resources=self.table.resources_for(self.wants or GuestWants(flavor=self.flavor)),
            wants=self.wants,
            image=self.image,
            networks=self.networks,
        )


def resolve(
    store: Store,
    spec: BuildSpec,
    config_drive: SeedKind = SeedKind.NOCLOUD,
    flavor: Flavor | None = None,
    find_network: Callable[[str], Network] | None = None,
) -> Resolved:
    """`config_drive` is the operator's, where neither spec nor image says. `flavor` is the one that the guest has already,
    whatever its name stands for now; None: it is looked up. `find_network` None: the store's own, which makes the default network
    at first use.

    Refused when the flavor, the image or a network is unknown, the image is known not to fit into the flavor, or what the two
    ask of the guest can't be met anywhere.
    """
    resolved = _resolved(store, spec, flavor or _flavor_for(store, spec))
    options = guest_options_for(resolved.flavor.extra_specs, resolved.image_properties)
    group = None if spec.server_group is None else store.server_groups.find(spec.server_group)[0]
    return replace(
        resolved,
        server_group=group,
        config_drive=seed_kind_for(spec.config_drive, options.disk, config_drive),
        networks=tuple(
            (find_network or store.find_network)(name) for name in dict.fromkeys(nic.network for nic in spec.nics)
        ),
        wants=wants_for(resolved.flavor, resolved.image_properties, options),
        table=store.resources,
    )


def _flavor_for(store: Store, spec: BuildSpec) -> Flavor:
    return sized_flavor_for(spec.flavor) or store.flavors.find(str(spec.flavor), spec.project).flavor


def _resolved(store: Store, spec: BuildSpec, flavor: Flavor) -> Resolved:
    url = image_url_for(spec.image)
    if url is not None:
        source = ImageSource(url=url, sha256=spec.image_sha256, format=spec.image_format)
        return Resolved(spec=spec, flavor=flavor, source=source, image=None)
    image = store.catalog.read_image(spec.image)
    if image is None:
        raise Refused(
            f"image: {spec.image!r}: no image of that name is registered; see `taskvisor images`, or give a path or a URL"
        )
    if image.deletion is not None:
        raise Refused(f"image: {spec.image!r} is being deleted, so nothing is built from it any more; choose another")
    if spec.image_properties:
        raise Refused(f"image_properties: image {image.name!r} is registered with its own; leave them out")
    if spec.image_sha256 not in (None, image.source.sha256):
        known = image.source.sha256 or "no declared SHA-256"
        raise Refused(f"image_sha256: image {image.name!r} has {known}, not {spec.image_sha256}; leave it out")
    if spec.image_format not in (None, image.source.format):
        kind = "of no declared format" if image.source.format is None else image.source.format
        raise Refused(f"image_format: image {image.name!r} is {kind}, not {spec.image_format}; leave it out")
    _require_fit(image, flavor)
    return Resolved(spec=spec, flavor=flavor, source=image.source, image=image)


def _require_fit(image: Image, flavor: Flavor) -> None:
    least_gib = max(image.min_disk_gib, -(-image.virtual_bytes // GIB))
    if 0 < flavor.disk_gib < least_gib:
        raise Refused(
            f"flavor: {flavor.name} has a disk of {flavor.disk_gib} GiB, image {image.name!r} needs {least_gib};"
            " choose a larger flavor"
        )
    if flavor.memory_mib < image.min_memory_mib:
        raise Refused(
            f"flavor: {flavor.name} has {flavor.memory_mib} MiB of memory, image {image.name!r} needs {image.min_memory_mib};"
            " choose a larger flavor"
        )


def allocate_ports(
    store: Store, spec: BuildSpec, instance_id: InstanceId, now: float, networks: Sequence[Network] = ()
) -> tuple[Port, ...]:
    """A port for each NIC, with the address it has, wants, or gets. What was allocated is given back when one is Refused.

    `networks` are those that were looked up already; the others are, here.
    """
    ports: list[Port] = []
    known = {network.name: network for network in networks}
    try:
        for index, nic in enumerate(spec.nics):
            network = known.get(nic.network) or store.find_network(nic.network)
            ports.append(allocate_port(store, nic, network, instance_id, port_id_for(instance_id, index), index, now))
    except Exception:
        release_ports(store, tuple(ports))
        raise
    return tuple(ports)


def allocate_port(
    store: Store, nic: NicSpec, network: Network, instance_id: InstanceId, port_id: PortId, index: int, now: float
) -> Port:
    """The port of NIC number `index`, with the addresses it has, wants, or gets. Refused when they can't be had, or a group is
    not there.
    """
    groups = tuple(store.groups.find(name).id for name in dict.fromkeys(groups_of(nic, network)))
    qos = None if nic.qos is None else nic.qos.qos()
    if groups and nic.anti_spoofing:
        require_filterable(network, f"networks: NIC {index}")
    require_sane(qos, network.kind, f"networks: NIC {index}")
    mac = nic.mac or mac_for(port_id)
    given = store.addresses.allocate(network, port_id, mac=mac, wanted=nic.address, wanted6=nic.address6, now=now)
    return Port(
        id=port_id,
        instance_id=instance_id,
        network_id=network.id,
        network=network.name,
        index=index,
        mac=mac,
        address=given.address,
        address6=given.address6,
        security_groups=groups,
        allowed_pairs=tuple(pair.pair() for pair in nic.allowed_pairs),
        anti_spoofing=nic.anti_spoofing,
        qos=qos,
        queues=nic.queues,
    )


def groups_of(nic: NicSpec, network: Network) -> tuple[str, ...]:
    """The names of the security groups that a NIC is to be in: those asked for, else `default` where ports are filtered."""
    if nic.security_groups is not None:
        return nic.security_groups
    return (DEFAULT_GROUP,) if nic.anti_spoofing and network.kind in FILTERED_KINDS else ()


def release_ports(store: Store, ports: tuple[Port, ...]) -> None:
    """Their addresses and MACs are free again, but for ports that are part of an instance."""
    for port in ports:
        store.addresses.give_back(Allocated(network_id=port.network_id, port_id=port.id, mac=port.mac))


def instance_for(
    resolved: Resolved, instance_id: InstanceId, host: HostName, ports: tuple[Port, ...], now: float
) -> Instance:
    """The record of a guest that is to be built on that host. Refused when a NIC can't have its queues."""
    spec = resolved.spec
    instance = Instance(
        id=instance_id,
        name=spec.name,
        host=host,
        vm_state=VmState.BUILDING,
        task_state=None,
        power_state=PowerState.NOSTATE,
        flavor=resolved.flavor,
        image=resolved.source,
        image_name=spec.image,
        ports=ports,
        ssh_keys=spec.ssh_keys,
        user_data=spec.user_data,
        config_drive=resolved.config_drive,
        metadata=spec.metadata,
        project=spec.project,
        server_group=None if resolved.server_group is None else resolved.server_group.id,
        image_properties=resolved.image_properties,
        image_min_memory_mib=resolved.image.min_memory_mib if resolved.image else 0,
        volumes=tuple(attachment_for(volume) for volume in spec.volumes),
        created_at=now,
    )
    for port in ports:
        queues_for(port, instance)  # refuses here what could not be plugged, nor then be unplugged
    return instance
