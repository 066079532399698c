"""Capabilities that libvirt gave: of the tests' own libvirtd (9.0, QEMU 7.2 without KVM), and of a KVM host, transcribed."""

from pathlib import Path


def read_capabilities(name: str) -> str:
    """The text of that one."""
    return (Path(__file__).parent / f"{name}.xml").read_text()
