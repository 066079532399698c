"""Text that libvirt gave, as an XML tree, with nothing in it trusted; and a domain's text with a device more or less."""

from lxml import etree

from taskvisor.model.errors import UnreadableRecord


def parse_tree(xml: str, tag: str) -> etree._Element:
    """The tree of a <tag>; UnreadableRecord when the text is none."""
    # Entities and the network are of no use here, and XML from elsewhere could abuse them.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
    try:
        root: etree._Element = etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableRecord(f"cannot read what should be a <{tag}>: {error}") from error
    if etree.QName(root).localname != tag:
        raise UnreadableRecord(f"cannot read a <{tag}>: the XML is a <{etree.QName(root).localname}>")
    return root


def with_disk(domain_xml: str, disk_xml: str) -> str:
    """The domain with one disk more."""
    return _with(domain_xml, disk_xml, "disk")


def without_disk(domain_xml: str, device: str) -> str:
    """The domain without its disk of that name, if it has one."""
    return _without(domain_xml, f"disk/target[@dev='{device}']/..")


def with_nic(domain_xml: str, nic_xml: str) -> str:
    """The domain with one NIC more."""
    return _with(domain_xml, nic_xml, "interface")


def without_nic(domain_xml: str, mac: str) -> str:
    """The domain without its NIC of that MAC, if it has one."""
    return _without(domain_xml, f"interface/mac[@address='{mac.lower()}']/..")


def macs_of(domain_xml: str) -> tuple[str, ...]:
    """The MACs of the domain's NICs, in their order."""
    root = parse_tree(domain_xml, "domain")
    return tuple(mac.get("address", "").lower() for mac in root.iterfind("devices/interface/mac"))


def _with(domain_xml: str, device_xml: str, tag: str) -> str:
    root = parse_tree(domain_xml, "domain")
    for devices in root.iterfind("devices"):
        devices.append(parse_tree(device_xml, tag))
    return _text_of(root)


def _without(domain_xml: str, path: str) -> str:
    root = parse_tree(domain_xml, "domain")
    for devices in root.iterfind("devices"):
        for device in devices.findall(path):
            devices.remove(device)
    return _text_of(root)


def _text_of(root: etree._Element) -> str:
    text: str = etree.tostring(root, encoding="unicode")
    return text
