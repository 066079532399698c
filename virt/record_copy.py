"""The copy of an instance's record in its domain's metadata, as one text: what it should be, what it is, whether it lags behind.

Pure. The text is canonical XML (C14N) without namespaces, which is how libvirt takes and gives an element of metadata by itself
(https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainSetMetadata), so that two copies are the same when their texts are.
"""

from copy import deepcopy

from lxml import etree

from taskvisor.model.errors import Refused, UnreadableRecord
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DefinitionFacts
from taskvisor.model.records import Instance
from virt.domain.owner import NAMESPACE
from virt.libvirt_xml import parse_tree
from virt.policy.guest import owner_for
from virt.readback import parse_owner

PREFIX = "tv"
"""Of our namespace in a domain's XML."""
_PLACE = f"metadata/{{{NAMESPACE}}}instance"


def record_copy_for(instance: Instance) -> str:
    """The copy that the instance's domain should carry."""
    return _canonical(owner_for(instance).to_element())


def record_copy_in(domain_xml: str) -> str | None:
    """The copy in a domain's XML; None when it bears none of ours. UnreadableRecord when the text is no domain."""
    found = parse_tree(domain_xml, "domain").find(_PLACE)
    return None if found is None else _canonical(found)


def parse_record_copy(element_xml: str) -> str:
    """The same of what libvirt gives of our element alone. UnreadableRecord when the text is none."""
    return _canonical(parse_tree(element_xml, "instance"))


def is_behind(found: DefinitionFacts, wanted: str) -> bool:
    """Whether a domain's copy, defined or live, is one of before a request that changes records alone: then it may follow.

    Such requests change what a port's record has beyond its attributes (its security groups) and nothing else. A definition
    whose copy differs in more knows something that the record does not, as after a restore of an older Redis: it is left as it
    is, and told as drift. A live copy is that of the guest's start, and may be behind in anything.
    """
    defined = None if found.persistent_xml is None else record_copy_in(found.persistent_xml)
    if defined is None or _without_port_records(defined) != _without_port_records(wanted):
        return False
    live = wanted if found.live_xml is None else record_copy_in(found.live_xml)
    return live is not None and (defined, live) != (wanted, wanted)


def require_copy_of(instance_id: InstanceId, copy: str) -> None:
    """Refused when the text is no copy of that instance's record: carrying it, its domain would be another's."""
    try:
        owner = parse_owner(copy)
    except UnreadableRecord as error:
        raise Refused(f"cannot copy the record of {instance_id}: {error}; render it anew") from error
    if owner != instance_id:
        raise Refused(
            f"cannot copy the record of {instance_id}: it is that of instance {owner}; render it for this one"
        )


def with_record_copy(domain_xml: str, copy: str) -> str:
    """The domain's XML with that copy in place of its own; as it is when it bears none."""
    root = parse_tree(domain_xml, "domain")
    for found in root.iterfind(_PLACE):
        made = parse_tree(copy, "instance")
        for element in made.iter():
            element.tag = f"{{{NAMESPACE}}}{element.tag}"
        found.getparent().replace(found, made)  # type: ignore[union-attr]  # it was found below the root
    return etree.tostring(root, encoding="unicode")


def _canonical(element: etree._Element) -> str:
    plain = deepcopy(element)
    plain.tail = None
    for part in plain.iter():
        part.tag = etree.QName(part).localname
        part.text = part.tail = None  # values are attributes; what text there is, is libvirt's indentation
    etree.cleanup_namespaces(plain)
    return etree.tostring(plain, method="c14n").decode()


def _without_port_records(copy: str) -> str:
    root = parse_tree(copy, "instance")
    for port in root.iterfind("port"):
        port.attrib.pop("record", "")
    return _canonical(root)
