"""Text that libvirt gave, as an XML tree, with nothing in it trusted; and a domain's text with a disk more or less."""

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
    root = parse_tree(domain_xml, "domain")
    for devices in root.iterfind("devices"):
        devices.append(parse_tree(disk_xml, "disk"))
    return _text_of(root)


def without_disk(domain_xml: str, device: str) -> str:
    """The domain without its disk of that name, if it has one."""
    root = parse_tree(domain_xml, "domain")
    for devices in root.iterfind("devices"):
        for disk in devices.findall(f"disk/target[@dev='{device}']/.."):
            devices.remove(disk)
    return _text_of(root)


def _text_of(root: etree._Element) -> str:
    text: str = etree.tostring(root, encoding="unicode")
    return text
