"""The CPU that a host's guests can be shown, by libvirt's domain capabilities. Knows no connection, and no guest.

It is what host-model gives: the features that libvirt, QEMU and the kernel can pass on, which may be fewer than the host's own.
https://libvirt.org/formatdomaincaps.html#cpu-configuration
"""

from lxml import etree

from virt.libvirt_xml import parse_tree


def parse_shown_cpu(domain_capabilities_xml: str, arch: str) -> str | None:
    """The CPU of the mode host-model, as libvirt takes it to be told all of its features; None where there is no such mode.

    UnreadableRecord when these are no domain capabilities.
    """
    root = parse_tree(domain_capabilities_xml, "domainCapabilities")
    shown = root.find("cpu/mode[@name='host-model'][@supported='yes']")
    model = None if shown is None else shown.findtext("model")
    if shown is None or not model:
        return None
    cpu = etree.Element("cpu")
    etree.SubElement(cpu, "arch").text = arch
    etree.SubElement(cpu, "model").text = model
    vendor = shown.findtext("vendor")
    if vendor:
        etree.SubElement(cpu, "vendor").text = vendor
    for feature in shown.iterfind("feature"):
        policy = "disable" if feature.get("policy") == "disable" else "require"
        etree.SubElement(cpu, "feature", policy=policy, name=feature.get("name", ""))
    return etree.tostring(cpu, encoding="unicode")


def parse_cpu(cpu_xml: str) -> tuple[str | None, frozenset[str]]:
    """The model of a <cpu>, and the features that it names and has. UnreadableRecord when it is none."""
    root = parse_tree(cpu_xml, "cpu")
    named = {feature.get("name", "") for feature in root.iterfind("feature") if feature.get("policy") != "disable"}
    return root.findtext("model"), frozenset(named)
