"""Clients that are not ours, in a guest's namespace: dhclient, rdisc6, nslookup. What they say, as data."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from tests.fixtures.machine import require_tool

T = TypeVar("T")
LIMIT_S = 60.0
"""Of anything asked: the machine may be several times slower than it should be."""
POLL_S = 0.1
CONFIGURATION = """\
option classless-routes code 121 = array of unsigned integer 8;
request subnet-mask, routers, domain-name-servers, interface-mtu, ntp-servers, classless-routes, host-name;
"""
SCRIPT = '#!/bin/sh\nenv | grep "^new_" >> "{said}"\nexit 0\n'


def run_inside(namespace: str, *argv: str) -> str:
    """What the program wrote to stdout. It may end as it likes."""
    require_tool(argv[0])
    ran = subprocess.run(
        ["ip", "netns", "exec", namespace, *argv], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    return ran.stdout


def lease_of(namespace: str, scratch: Path, *, family: str = "-4") -> Mapping[str, str]:
    """What dhclient was told on eth0, by its script's names (dhclient-script(8)); empty when nobody answered in time."""
    require_tool("dhclient")
    if family == "-6":
        require_usable6(namespace)
    scratch.mkdir(exist_ok=True)
    script, said, configuration = scratch / "script", scratch / f"said{family}", scratch / "dhclient.conf"
    script.write_text(SCRIPT.format(said=said))
    script.chmod(0o755)
    configuration.write_text(CONFIGURATION)
    said.write_text("")
    files = ("-lf", scratch / f"leases{family}", "-pf", scratch / f"pid{family}", "eth0")
    client = subprocess.Popen(
        ["ip", "netns", "exec", namespace, "dhclient", family, "-1", "-d", "-cf", configuration, "-sf", script, *files],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wanted = "new_ip_address=" if family == "-4" else "new_ip6_address="
        eventually(lambda: wanted in said.read_text())
    finally:
        client.kill()
        client.wait(LIMIT_S)
    return dict(line.split("=", 1) for line in said.read_text().splitlines())


def routes_of(option: str) -> dict[str, str]:
    """RFC 3442's octets as they stand in the script's environment: destination -> router."""
    octets, found = [int(word) for word in option.split()], {}
    while octets:
        length, octets = octets[0], octets[1:]
        significant = (length + 7) // 8
        network = [*octets[:significant], 0, 0, 0, 0][:4]
        router, octets = octets[significant : significant + 4], octets[significant + 4 :]
        found[f"{'.'.join(map(str, network))}/{length}"] = ".".join(map(str, router))
    return found


def advertisement_to(namespace: str) -> Mapping[str, str]:
    """The router advertisement that answers eth0, by rdisc6's words; empty when there is none."""
    require_usable6(namespace)
    said = run_inside(namespace, "rdisc6", "-1", "eth0")
    pairs = (re.split(r"\s*:\s+", line, maxsplit=1) for line in said.splitlines() if ": " in line)
    return {name.strip(): value.strip() for name, value in pairs}


def require_usable6(namespace: str) -> None:
    """Eth0 has its link-local address, and the kernel has made sure that nobody else has it: until then no client may ask."""
    show = ("ip", "-j", "-6", "address", "show", "eth0", "scope", "link", "-tentative")
    assert eventually(lambda: "fe80" in run_inside(namespace, *show))


def addresses_of(namespace: str) -> tuple[str, ...]:
    """The addresses of eth0 that are of more than its link, IPv6 ones once they are known not to be somebody else's."""
    (link,) = json.loads(run_inside(namespace, "ip", "-j", "address", "show", "eth0"))
    return tuple(
        held["local"]
        for held in link["addr_info"]
        if held["scope"] == "global" and "tentative" not in held and not held.get("tentative")
    )


def eventually(holds: Callable[[], T]) -> T | None:
    """What the look gives as soon as it is true; None when it was not in LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(POLL_S)
    return None
