"""The command line and files of dnsmasq: pure."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from net.services.dnsmasq import (
    HostEntry,
    Lease,
    argv_for,
    host_entry_for,
    hosts_for,
    names_for,
    parse_hosts,
    parse_leases,
    paths_for,
)
from taskvisor.model.ids import PortId
from tests.net.plans import network, vif

PATHS = paths_for(Path("/state/net/networks"), network().id)

entries = st.builds(
    HostEntry,
    port_id=st.uuids().map(lambda value: PortId(str(value))),
    mac=st.from_regex(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", fullmatch=True),
    address=st.ip_addresses(v=4).map(str),
    hostname=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
    address6=st.none() | st.ip_addresses(v=6).map(str),
)


@given(st.lists(entries, max_size=5))
def test_host_entries_are_read_back_as_they_were_written(written: list[HostEntry]) -> None:
    assert list(parse_hosts(hosts_for(written))) == written


def test_names_are_those_of_all_addresses() -> None:
    entry = host_entry_for(vif())
    assert names_for([entry, replace(entry, address="10.9.0.11", address6="fd00:9::b", hostname="db")]) == (
        "10.9.0.10 web-0\n10.9.0.11 db\nfd00:9::b db\n"
    )


def test_a_host_entry_bears_no_tag() -> None:
    """Dnsmasq 2.86 to 2.90 dies at SIGHUP when a host with a tag has a lease."""
    assert "set:" not in hosts_for([host_entry_for(vif())])


def test_lines_of_another_form_are_passed_over() -> None:
    assert parse_hosts("\n# a remark\n52:54:00:00:00:01,10.0.0.1\n") == ()
    assert parse_leases("duid 00:01\n\n1700000000 52:54:00:AA:00:01 10.0.0.5 * *\n") == (
        Lease(mac="52:54:00:aa:00:01", address="10.0.0.5", line="1700000000 52:54:00:AA:00:01 10.0.0.5 * *"),
    )


def test_known_macs_only_on_one_bridge_only_and_no_file_of_the_hosts() -> None:
    argv = argv_for(vif(), bridge_index=7, paths=PATHS)
    assert "--dhcp-range=set:bridge7,10.9.0.0,static,255.255.255.0,86400" in argv
    assert {f"--interface={vif().bridge}", "--except-interface=lo", "--bind-interfaces"} <= set(argv)
    assert {"--conf-file=/dev/null", "--no-hosts"} <= set(argv)


def test_every_thing_that_matters_changes_the_command_line() -> None:
    nic = vif()
    lines = [
        argv_for(nic, bridge_index=7, paths=PATHS),
        argv_for(nic, bridge_index=8, paths=PATHS),
        argv_for(replace(nic, mtu=9000), bridge_index=7, paths=PATHS),
        argv_for(replace(nic, dns=("192.0.2.1",)), bridge_index=7, paths=PATHS),
        argv_for(replace(nic, nat=False), bridge_index=7, paths=PATHS),
        argv_for(replace(nic, gateway="10.9.0.254"), bridge_index=7, paths=PATHS),
    ]
    assert len(set(lines)) == len(lines)
    other_port = vif(1)
    assert argv_for(other_port, bridge_index=7, paths=PATHS) == lines[0], "a port is not part of it"


def test_dns_is_served_unless_the_network_names_servers() -> None:
    assert "--port=0" not in argv_for(vif(), bridge_index=7, paths=PATHS)
    named = argv_for(vif(on=network(dns=("192.0.2.1", "192.0.2.2"))), bridge_index=7, paths=PATHS)
    assert {"--port=0", "--dhcp-option=option:dns-server,192.0.2.1,192.0.2.2"} <= set(named)
    isolated = argv_for(vif(on=network(nat=False)), bridge_index=7, paths=PATHS)
    assert {"--no-resolv", "--dhcp-option=option:router"} <= set(isolated)
