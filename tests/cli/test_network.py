"""Networks, security groups and floating addresses from the command line: what is sent, what is told, and the exit code."""

from typing import Any

import pytest
import redis

from taskvisor.cli.rules import rule_for, rule_text
from taskvisor.model.errors import Refused
from taskvisor.model.group_spec import SecurityGroupSpec, group_for
from taskvisor.model.ids import security_group_id_for
from taskvisor.model.network_view import group_view, network_view
from taskvisor.model.spec import parse_spec
from taskvisor.state.keys import Keys
from taskvisor.state.security_groups import SecurityGroups
from tests.cli.book import Book, instance
from tests.cli.conftest import PREFIX, Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

BLUE: dict[str, Any] = {
    "cidr": "10.7.0.0/24",
    "kind": "vxlan",
    "cidr6": "fd00:7::/64",
    "ipv6_mode": "dhcpv6",
    "segment": 7,
    "mtu": 1400,
    "dhcp": False,
    "nat": False,
    "dns": ["10.7.0.53", "fd00:7::53"],
    "routes": [{"destination": "10.9.0.0/16", "via": "10.7.0.254"}],
}


def told(asked: Asked) -> object:
    return {"id": "i", **dict(asked.fields)}


def test_creating_a_network_sends_all_that_was_typed(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["network.create"] = told
    words = ["--cidr", "10.7.0.0/24", "--kind", "vxlan", "--segment", "7", "--cidr6", "fd00:7::/64"]
    words += ["--ipv6-mode", "dhcpv6", "--mtu", "1400", "--no-dhcp", "--no-nat", "--dns", "10.7.0.53"]
    words += ["--dns", "fd00:7::53", "--route", "10.9.0.0/16=10.7.0.254", "--id", "make"]

    result = cli("network", "create", "blue", *words)

    assert (result.exit_code, result.stdout) == (0, "blue is recorded\n"), result.stderr
    assert worker.asked == [Asked(task="network.create", operation_id="make", fields={"name": "blue", **BLUE})]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("network", "create", "la/b", "--cidr", "10.7.0.0/24"), "name: 'la/b': must be 1 to 63 letters"),
        (("network", "create", "lab", "--cidr", "10.7.0.1/24"), "cidr: '10.7.0.1/24': has bits beyond its prefix"),
        (("network", "create", "lab", "--cidr", "10.7.0.0/24", "--route", "x"), "--route 'x': must be NET=VIA"),
        (("group", "create", "web", "--rule", "both"), "--rule 'both': 'both': must begin with in or out"),
        (("group", "create", "web", "--rule", "in,port=80"), "'port=80' is none of the rule's options"),
        (("group", "create", "web", "--rule", "in,ports=80"), "first_port: 80: ports are of tcp, udp and sctp"),
        (("group", "update", "web", "--rule", "in,ports=a"), "ports=a: must be a number, or two with a hyphen"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], said: str
) -> None:
    result = cli(*words)

    assert (result.exit_code, worker.asked) == (2, [])
    assert said in result.stderr


@pytest.mark.parametrize(
    ("words", "task", "fields", "said"),
    [
        (("network", "delete", "lab"), "network.delete", {"network": "lab"}, "lab is deleted"),
        (
            ("group", "create", "web", "--rule", "in,protocol=tcp,ports=80-90,remote=fd00::/8", "--rule", "out"),
            "security_group.create",
            {
                "name": "web",
                "rules": [
                    {
                        "direction": "ingress",
                        "protocol": "tcp",
                        "first_port": 80,
                        "last_port": 90,
                        "remote": "fd00::/8",
                        "family": "ipv6",
                    },
                    {"direction": "egress"},
                ],
            },
            "web is recorded",
        ),
        (("group", "update", "web"), "security_group.update", {"group": "web", "rules": []}, "web has these rules"),
        (("group", "delete", "web"), "security_group.delete", {"group": "web"}, "web is deleted"),
        (
            ("group", "set", "vm", "web", "db", "--port", "10.7.0.2", "--wait-turn", "9"),
            "port.update",
            {"instance": "vm", "security_groups": ["web", "db"], "port": "10.7.0.2", "wait_turn_s": 9},
            "vm is in these groups",
        ),
        (("group", "set", "vm"), "port.update", {"instance": "vm", "security_groups": []}, "vm is in these groups"),
        (("floating", "create", "192.0.2.7"), "floating.create", {"address": "192.0.2.7"}, "192.0.2.7 is registered"),
        (
            ("floating", "bind", "192.0.2.7", "vm", "--port", "10.7.0.2"),
            "floating.bind",
            {"floating": "192.0.2.7", "instance": "vm", "port": "10.7.0.2"},
            "192.0.2.7 is bound",
        ),
        (("floating", "release", "192.0.2.7"), "floating.release", {"floating": "192.0.2.7"}, "192.0.2.7 is free"),
        (("floating", "delete", "192.0.2.7"), "floating.delete", {"floating": "192.0.2.7"}, "192.0.2.7 is deleted"),
    ],
)
def test_each_command_sends_its_request_and_tells_what_is_so_now(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], task: str, fields: dict[str, Any], said: str
) -> None:
    worker.answers[task] = lambda _: {"id": "i"}

    result = cli(*words)

    assert (result.exit_code, result.stdout) == (0, f"{said}\n"), result.stderr
    assert [(asked.task, asked.fields) for asked in worker.asked] == [(task, fields)]


def test_what_is_so_already_ends_with_3(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["network.create"] = worker.answers["network.delete"] = lambda _: {"already": True}

    created, deleted = cli("network", "create", "lab", "--cidr", "10.7.0.0/24"), cli("network", "delete", "lab")

    assert (created.exit_code, created.stdout) == (3, "lab is recorded already\n")
    assert (deleted.exit_code, deleted.stdout) == (3, "lab: there is none such\n")


def test_a_refusal_is_a_sentence(cli: Cli, worker: FakeWorker) -> None:
    def refuse(_: Asked) -> object:
        raise Refused("cidr: 10.7.0.0/24 overlaps 10.7.0.0/16 of network 'lab'")

    worker.answers["network.create"] = refuse

    result = cli("network", "create", "blue", "--cidr", "10.7.0.0/24")

    assert result.exit_code == 1
    assert "cidr: 10.7.0.0/24 overlaps 10.7.0.0/16 of network 'lab'" in result.stderr


def test_networks_are_shown_and_listed(cli: Cli, book: Book, redis_url: str) -> None:
    book.put_network("lab")

    shown, listed = cli("network", "show", "lab"), cli("network", "list")

    found = book.catalog.find_network("lab")
    assert json_of(cli("network", "show", "lab", "-f", "json")) == network_view(found)
    assert "10.1.0.0/24" in shown.stdout
    assert listed.stdout == cli("networks").stdout
    assert json_of(cli("network", "list", "-f", "json")) == [network_view(found)]
    assert cli("network", "show", "nope").exit_code == 1


def test_groups_are_shown_and_listed(cli: Cli, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        made = SecurityGroups(client, Keys(PREFIX)).find("default")

    shown = [line.split() for line in cli("group", "show", "default").stdout.splitlines()[1:]]
    assert shown == [["0", "out,family=ipv4"], ["1", "out,family=ipv6"]]
    assert json_of(cli("group", "show", made.id, "-f", "json")) == group_view(made)
    assert json_of(cli("group", "list", "-f", "json")) == [group_view(made)]
    assert "default" in cli("group", "list").stdout
    assert "there is no security group 'web'" in cli("group", "show", "web").stderr


def test_floating_addresses_are_listed_with_their_owners(cli: Cli, book: Book, redis_url: str) -> None:
    keys = Keys(PREFIX)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.hset(keys.floating, mapping={"f7": "192.0.2.7", "f8": "192.0.2.8"})
        client.hset(keys.floating_bound, "f7", "port-web-1 guest")
        book.put_instance(instance())

    lines = cli("floating", "list").stdout.splitlines()

    assert [line.split() for line in lines[1:]] == [["192.0.2.7", "web-1", "10.152.0.2"], ["192.0.2.8", "-", "-"]]
    assert [one["port"] for one in json_of(cli("floating", "list", "-f", "json"))] == ["port-web-1", None]


@pytest.mark.parametrize(
    "text",
    [
        "in,family=ipv4",
        "out,family=ipv6,protocol=tcp,ports=80",
        "in,family=ipv4,protocol=udp,ports=1-9,remote=10.0.0.0/8",
        "in,family=ipv4,protocol=icmp,icmp=8",
        "in,family=ipv4,protocol=icmp,icmp=3-4",
        "in,family=ipv4,protocol=icmp,icmp=3-3",
        "in,family=ipv6,protocol=47,group=web",
    ],
)
def test_a_rule_is_shown_as_it_is_typed(text: str) -> None:
    spec = parse_spec(SecurityGroupSpec, {"name": "g", "rules": [dict(rule_for(text))]})
    group = group_for(security_group_id_for("g"), "g", spec.rules, security_group_id_for)

    assert rule_text(group.rules[0], {security_group_id_for("web"): "web"}) == text
