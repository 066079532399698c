"""Text that libvirt gave, as an XML tree, with nothing in it trusted. Knows no element of it but the outermost."""

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
