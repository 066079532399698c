"""The door's table: what is asked wrongly, and the exact sentence that its caller reads."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskvisor.model.errors import Refused
from taskvisor.model.flavors import sized_flavor_for, unknown_flavor
from taskvisor.model.ids import OPERATION_ID_RULE
from taskvisor.model.image_url import image_url_for
from taskvisor.model.records import Flavor
from taskvisor.model.spec import (
    BuildSpec,
    FlavorSpec,
    InstanceSpec,
    OperationSpec,
    RebootSpec,
    SnapshotSpec,
    Spec,
    StopSpec,
    parse_spec,
)
from taskvisor.model.states import RebootType

NAMED = "must be 1 to 63 letters, digits, dots or hyphens, beginning and ending with a letter or digit"
MAC = "must be six pairs of hexadecimal digits with colons, like 52:54:00:12:34:56"
IPV4 = "must be an IPv4 address, like 10.152.0.7"
SSH = "must be one public key in OpenSSH's format, like 'ssh-ed25519 AAAA… comment'"
SHA256 = "must be a SHA-256: 64 hexadecimal digits in lower case, as `sha256sum` writes it"
LEAST = {"name": "web", "image": "/images/debian.qcow2"}

BAD_NAMES = (
    "",
    "<web>",
    "w&b",
    "a;rm -rf /",
    "$(id)",
    "`id`",
    "a|b",
    "../etc",
    "a/b",
    "web\n",
    "we\nb",
    "web\x00",
    "-web",
    "web-",
    ".",
    "..",
    "web 1",
    "wéb",
    "ｗeb",
    "a" * 64,
)

BAD_BUILDS: tuple[tuple[dict[str, Any], str], ...] = (
    *(({"name": name}, f"name: {name!r}: {NAMED}") for name in BAD_NAMES),
    ({"name": 7}, "name: 7: input should be a valid string"),
    ({"name": None}, "name: None: input should be a valid string"),
    ({"bogus": 1}, "bogus: unknown field; remove it or check its spelling"),
    ({"image": ""}, "image: '': string should have at least 1 character"),
    ({"image": 5}, "image: 5: input should be a valid string"),
    ({"image": "x" * 4097}, f"image: '{'x' * 78}…: string should have at most 4096 characters"),
    (
        {"image_sha256": "abc"},
        f"image_sha256: 'abc': {SHA256}",
    ),
    (
        {"image_sha256": "A" * 64},
        f"image_sha256: '{'A' * 64}': {SHA256}",
    ),
    (
        {"image_sha256": "0" * 63 + "\n"},
        rf"image_sha256: '{'0' * 63}\n': {SHA256}",
    ),
    (
        {"image_format": "zip"},
        "image_format: 'zip': input should be 'qcow2', 'raw', 'iso', 'vmdk', 'vdi', 'vhd' or 'vhdx'",
    ),
    ({"flavor": 7}, "flavor: 7: input should be a valid string"),
    ({"flavor": "x" * 256}, f"flavor: '{'x' * 78}…: string should have at most 255 characters"),
    ({"flavor": {"vcpus": 0, "memory_mib": 64}}, "flavor.vcpus: 0: input should be greater than or equal to 1"),
    ({"flavor": {"vcpus": 257, "memory_mib": 64}}, "flavor.vcpus: 257: input should be less than or equal to 256"),
    ({"flavor": {"vcpus": "1", "memory_mib": 64}}, "flavor.vcpus: '1': input should be a valid integer"),
    ({"flavor": {"vcpus": True, "memory_mib": 64}}, "flavor.vcpus: True: input should be a valid integer"),
    ({"flavor": {"vcpus": 1.0, "memory_mib": 64}}, "flavor.vcpus: 1.0: input should be a valid integer"),
    ({"flavor": {"vcpus": 1, "memory_mib": 15}}, "flavor.memory_mib: 15: input should be greater than or equal to 16"),
    (
        {"flavor": {"vcpus": 1, "memory_mib": 16_777_217}},
        "flavor.memory_mib: 16777217: input should be less than or equal to 16777216",
    ),
    (
        {"flavor": {"vcpus": 1, "memory_mib": 64, "disk_gib": -1}},
        "flavor.disk_gib: -1: input should be greater than or equal to 0",
    ),
    (
        {"flavor": {"vcpus": 1, "memory_mib": 64, "disk_gib": 65_537}},
        "flavor.disk_gib: 65537: input should be less than or equal to 65536",
    ),
    ({"flavor": {"vcpus": 1}}, "flavor.memory_mib: missing; it must be given"),
    (
        {"flavor": {"vcpus": 1, "memory_mib": 64, "gpus": 1}},
        "flavor.gpus: unknown field; remove it or check its spelling",
    ),
    ({"networks": "default"}, "networks: 'default': input should be a valid list"),
    (
        {"networks": ["a"] * 9},
        "networks: ['a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a']: list should have at most 8 items after validation, not 9",
    ),
    ({"networks": ["a b"]}, f"networks.0: 'a b': {NAMED}"),
    ({"networks": ["a", "b;c"]}, f"networks.1: 'b;c': {NAMED}"),
    ({"networks": [{"mac": "52:54:00:12:34:56"}]}, "networks.0.network: missing; it must be given"),
    (
        {"networks": [{"network": "a", "vlan": 3}]},
        "networks.0.vlan: unknown field; remove it or check its spelling",
    ),
    *(
        ({"networks": [{"network": "a", "mac": mac}]}, f"networks.0.mac: {mac!r}: {MAC}")
        for mac in ("52-54-00-12-34-56", "52:54:00:12:34", "52:54:00:12:34:56\n", "52:54:00:12:34:5g", "")
    ),
    (
        {"networks": [{"network": "a", "mac": "01:00:5e:00:00:01"}]},
        "networks.0.mac: '01:00:5e:00:00:01': must be a unicast address: the first octet is even",
    ),
    (
        {"networks": [{"network": "a", "mac": "FF:FF:FF:FF:FF:FF"}]},
        "networks.0.mac: 'FF:FF:FF:FF:FF:FF': must be a unicast address: the first octet is even",
    ),
    *(
        ({"networks": [{"network": "a", "address": address}]}, f"networks.0.address: {address!r}: {IPV4}")
        for address in ("10.0.0.256", "10.0.0", "10.0.0.x", "::1", "10.0.0.٣", "10.0.0.-1", "10.0.0.1 ", "")
    ),
    (
        {"networks": [{"network": "a", "mac": "52:54:00:12:34:56"}, {"network": "b", "mac": "52:54:00:12:34:56"}]},
        "networks: the same mac is asked for twice",
    ),
    (
        {"networks": [{"network": "a", "address": "10.0.0.7"}, {"network": "a", "address": "10.0.0.07"}]},
        "networks: the same address is asked for twice",
    ),
    ({"ssh_keys": "ssh-ed25519 AAAA"}, "ssh_keys: 'ssh-ed25519 AAAA': input should be a valid list"),
    *(
        ({"ssh_keys": [key]}, f"ssh_keys.0: {key!r}: {SSH}")
        for key in (
            "AAAA",
            "ssh-ed25519",
            "ssh-ed25519 AA!A",
            "ssh-ed25519 AAAA\nssh-rsa BBBB",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            'command="x" ssh-rsa AAAA',
        )
    ),
    (
        {"ssh_keys": ["ssh-ed25519 AAAA " + "c" * 16_384]},
        f"ssh_keys.0: 'ssh-ed25519 AAAA {'c' * 61}…: string should have at most 16384 characters",
    ),
    (
        {"ssh_keys": ["ssh-ed25519 AAAA"] * 65},
        f"ssh_keys: {str(['ssh-ed25519 AAAA'] * 65)[:79]}…: list should have at most 64 items after validation, not 65",
    ),
    ({"user_data": "secret" + "x" * 65_530}, "user_data: is 65536 bytes; at most 65535 are allowed"),
    ({"user_data": "é" * 32_768}, "user_data: is 65536 bytes; at most 65535 are allowed"),
    ({"user_data": "secret\0"}, "user_data: must not hold a NUL character"),
    ({"user_data": 7}, "user_data: input should be a valid string"),
    ({"metadata": []}, "metadata: []: input should be a valid dictionary"),
    ({"metadata": {"k": 7}}, "metadata.k: 7: input should be a valid string"),
    ({"metadata": {"k": "v" * 256}}, f"metadata.k: '{'v' * 78}…: string should have at most 255 characters"),
    (
        {"metadata": {"k": "\x01"}},
        r"metadata.k: '\x01': string should match pattern '^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$'",
    ),
    ({"metadata": {"": "v"}}, "metadata: '': string should match pattern '^[A-Za-z0-9 _.:-]{1,255}$'"),
    ({"metadata": {"k\n": "v"}}, r"metadata: 'k\n': string should match pattern '^[A-Za-z0-9 _.:-]{1,255}$'"),
    ({"host": "../h"}, f"host: '../h': {NAMED}"),
)

BAD_OTHERS: tuple[tuple[type[Spec], dict[str, Any], str], ...] = (
    (BuildSpec, {"image": "/x"}, "name: missing; it must be given"),
    (BuildSpec, {"name": "web"}, "image: missing; it must be given"),
    (InstanceSpec, {}, "instance: missing; it must be given"),
    (InstanceSpec, {"instance": ""}, "instance: '': string should have at least 1 character"),
    (InstanceSpec, {"instance": "x" * 64}, f"instance: '{'x' * 64}': string should have at most 63 characters"),
    (InstanceSpec, {"instance": "web", "force": True}, "force: unknown field; remove it or check its spelling"),
    (StopSpec, {"instance": "web", "timeout_s": -1}, "timeout_s: -1: input should be greater than or equal to 0"),
    (StopSpec, {"instance": "web", "timeout_s": 3601}, "timeout_s: 3601: input should be less than or equal to 3600"),
    (StopSpec, {"instance": "web", "timeout_s": "5"}, "timeout_s: '5': input should be a valid integer"),
    (StopSpec, {"instance": "web", "timeout_s": 1.5}, "timeout_s: 1.5: input should be a valid integer"),
    (RebootSpec, {"instance": "web", "type": "warm"}, "type: 'warm': input should be 'soft' or 'hard'"),
    (SnapshotSpec, {"instance": "web"}, "image: missing; it must be given"),
    (SnapshotSpec, {"instance": "web", "image": "../gold"}, f"image: '../gold': {NAMED}"),
    (OperationSpec, {"operation": ""}, "operation: '': string should have at least 1 character"),
    (
        OperationSpec,
        {"operation": "x" * 129},
        f"operation: '{'x' * 78}…: string should have at most 128 characters",
    ),
)

SCHEMES = "is not known; use a path, file://, http://, https://, glance:// or s3://"
A_FILE = "must name a file of the host, as file:///path, without '..'"
CONTROL = "must not hold spaces or control characters; write them as %20 and the like"

BAD_IMAGES = (
    ("ftp://x/y", f"scheme 'ftp' {SCHEMES}"),
    ("local:///etc/passwd", f"scheme 'local' {SCHEMES}"),
    ("simplecache::s3://bucket/key", f"scheme 'simplecache' {SCHEMES}"),
    ("s3://bucket", "must name a bucket and an object, as s3://bucket/path"),
    ("s3:///key", "must name a bucket and an object, as s3://bucket/path"),
    ("javascript://x", f"scheme 'javascript' {SCHEMES}"),
    ("://x", f"scheme '' {SCHEMES}"),
    ("file://elsewhere/x", A_FILE),
    ("file:///a/../b", A_FILE),
    ("file:///a/%2e%2e/b", A_FILE),
    ("file:///a%00b", A_FILE),
    ("/a/../b", "must be an absolute path without '..'"),
    ("/a\0b", "must be an absolute path without '..'"),
    ("http://", "names no server"),
    ("https:///x", "names no server"),
    ("http://[::1", "is no URL: Invalid IPv6 URL"),
    ("http://h/a b", CONTROL),
    ("http://h/\r\nX-Evil: 1", CONTROL),
)


@pytest.mark.parametrize(("fields", "sentence"), BAD_BUILDS)
def test_a_wrong_build_is_refused_with_field_value_and_rule(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_spec(BuildSpec, {**LEAST, **fields})

    assert str(refusal.value) == sentence


@pytest.mark.parametrize(("kind", "fields", "sentence"), BAD_OTHERS)
def test_a_wrong_request_is_refused_with_field_value_and_rule(
    kind: type[Spec], fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused) as refusal:
        parse_spec(kind, fields)

    assert str(refusal.value) == sentence


def test_the_least_a_build_needs_is_a_name_and_an_image() -> None:
    spec = parse_spec(BuildSpec, LEAST)

    assert spec == BuildSpec(name="web", image="/images/debian.qcow2")
    assert (spec.flavor, [nic.network for nic in spec.nics], spec.host) == ("m1.tiny", ["default"], None)


def full_volume(number: int) -> dict[str, Any]:
    """A volume with all that can be said of one."""
    return {
        "source": f"rbd://volumes/{'x' * 100}{number}",
        "format": "raw",
        "serial": f"{number:02}" + "s" * 34,
        "device": f"/dev/vdb{chr(ord('a') + number)}",
        "bus": "virtio",
        "boot_index": 64,
        "shareable": True,
        "readonly": True,
        "cache": "directsync",
        "io": "io_uring",
        "discard": "ignore",
        "total_bytes_s": 1 << 50,
        "read_bytes_s": None,
        "write_bytes_s": None,
        "total_iops": None,
        "read_iops": 1,
        "write_iops": 1 << 50,
    }


def test_all_limits_may_be_reached() -> None:
    fields = {
        "name": "a" * 63,
        "image": "/" + "x" * 4095,
        "image_sha256": "0" * 64,
        "image_format": "qcow2",
        "image_properties": {f"{number:03}" + "k" * 252: "v" * 2047 for number in range(128)},
        "flavor": {
            "vcpus": 256,
            "memory_mib": 16_777_216,
            "disk_gib": 65_536,
            "swap_mib": 1_048_576,
            "ephemeral_gib": 65_536,
            "extra_specs": {f"{number:03}" + "k" * 252: "v" * 2047 for number in range(128)},
        },
        "networks": ["a.b-c"] * 8,
        "ssh_keys": ["ssh-ed25519 AAAA"] * 64,
        "user_data": "x" * 65_535,
        "config_drive": "configdrive-vfat",
        "metadata": {f"{number:03}" + "k" * 252: "v" * 255 for number in range(128)},
        "host": "kvm1.example",
        "project": "p" * 63,
        "on_failure": "keep",
        "volumes": [full_volume(number) for number in range(16)],
        "availability_zone": "z" * 255,
        "server_group": "g" * 63,
        "require_labels": ["k" * 63 + "=" + "v" * 63] * 32,
        "forbid_labels": [f"k{number}" for number in range(32)],
    }

    spec = parse_spec(BuildSpec, fields)

    assert spec.model_dump(mode="json") == fields


def test_a_request_read_from_its_own_json_is_the_same_request() -> None:
    fields = {
        **LEAST,
        "flavor": {"vcpus": 1, "memory_mib": 64},
        "networks": ["default", {"network": "lab", "mac": "52:54:00:AB:CD:EF", "address": "10.0.0.7"}],
    }
    spec = parse_spec(BuildSpec, fields)

    assert parse_spec(BuildSpec, spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("name", ["w", "7", "web.example", "A-b.C-9", "a" * 63])
def test_a_name_may_hold_letters_digits_dots_and_hyphens(name: str) -> None:
    assert parse_spec(BuildSpec, {**LEAST, "name": name}).name == name


@pytest.mark.parametrize(
    "key",
    [
        "ssh-ed25519 AAAAC3 me@home",
        "ssh-rsa AAAA+/== ",
        "ecdsa-sha2-nistp256 AAAA a comment of many words",
        "sk-ssh-ed25519@openssh.com AAAA",
    ],
)
def test_every_form_of_a_public_key_is_taken_without_the_space_around_it(key: str) -> None:
    assert parse_spec(BuildSpec, {**LEAST, "ssh_keys": [f" {key}\n"]}).ssh_keys == (key.strip(),)


def test_addresses_are_written_in_one_way() -> None:
    nic = {"network": "lab", "mac": "52:54:00:AB:CD:EF", "address": "010.000.0.07"}

    spec = parse_spec(BuildSpec, {**LEAST, "networks": [nic]})

    assert (spec.nics[0].mac, spec.nics[0].address) == ("52:54:00:ab:cd:ef", "10.0.0.7")


def test_a_spec_never_changes() -> None:
    spec = parse_spec(BuildSpec, LEAST)

    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]  # that is the point


def test_the_reboot_type_is_soft_unless_said() -> None:
    assert parse_spec(RebootSpec, {"instance": "web"}).type is RebootType.SOFT
    assert parse_spec(RebootSpec, {"instance": "web", "type": "hard"}).type is RebootType.HARD


@pytest.mark.parametrize(
    ("asked", "flavor"),
    [
        ("c2-m512-d7", Flavor(name="c2-m512-d7", vcpus=2, memory_mib=512, disk_gib=7)),
        (
            "c2-m512-d7-s64-e3",
            Flavor(name="c2-m512-d7-s64-e3", vcpus=2, memory_mib=512, disk_gib=7, swap_mib=64, ephemeral_gib=3),
        ),
        ("c2-m512-d7-e3", Flavor(name="c2-m512-d7-e3", vcpus=2, memory_mib=512, disk_gib=7, ephemeral_gib=3)),
        ("c02-m0512-d07", Flavor(name="c2-m512-d7", vcpus=2, memory_mib=512, disk_gib=7)),
        (
            FlavorSpec(vcpus=2, memory_mib=512),
            Flavor(name="c2-m512-d0", vcpus=2, memory_mib=512, disk_gib=0),
        ),
    ],
)
def test_a_flavor_is_spelled_out(asked: str | FlavorSpec, flavor: Flavor) -> None:
    assert sized_flavor_for(asked) == flavor


@pytest.mark.parametrize("name", ["m1.tiny", "c1-m64", "C1-M64-D1", "c1-m64-d1\n", "c-1-m64-d1", "../m1.tiny", ""])
def test_what_spells_out_no_size_must_be_the_name_of_a_recorded_flavor(name: str) -> None:
    assert sized_flavor_for(name) is None
    assert str(unknown_flavor(name)) == (
        f"flavor: {name!r}: there is no such flavor; see `taskvisor flavor list`, or give a size like c1-m512-d1"
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("c0-m64-d1", "vcpus: 0: input should be greater than or equal to 1"),
        ("c999-m64-d1", "vcpus: 999: input should be less than or equal to 256"),
        ("c1-m99999999-d1", "memory_mib: 99999999: input should be less than or equal to 16777216"),
        ("c1-m64-d999999", "disk_gib: 999999: input should be less than or equal to 65536"),
    ],
)
def test_a_flavor_by_size_has_the_same_limits(name: str, sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        sized_flavor_for(name)

    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("/images/debian 12.qcow2", "file:///images/debian%2012.qcow2"),
        ("/images/a?b#c", "file:///images/a%3Fb%23c"),
        ("file:///images/x", "file:///images/x"),
        ("file://localhost/images/x", "file://localhost/images/x"),
        ("https://example.org/x.qcow2?a=b", "https://example.org/x.qcow2?a=b"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("simulated://debian", "simulated://debian"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("glance://lab/5f5a3e2c-6d0e-4a51-9d43-0f1f6f1f0001", "glance://lab/5f5a3e2c-6d0e-4a51-9d43-0f1f6f1f0001"),
        ("gold", None),
        ("../gold", None),
    ],
)
def test_an_image_is_a_path_a_url_or_a_name(image: str, url: str | None) -> None:
    assert image_url_for(image) == url


@pytest.mark.parametrize(("image", "sentence"), BAD_IMAGES)
def test_an_image_elsewhere_or_outside_is_refused(image: str, sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        image_url_for(image)

    assert str(refusal.value) == f"image: {image!r}: {sentence}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from([*BuildSpec.model_fields, "bogus"]), JSON))
def test_whatever_json_is_asked_the_answer_is_a_spec_or_a_refusal(fields: dict[str, Any]) -> None:
    with suppress(Refused):
        spec = parse_spec(BuildSpec, {**LEAST, **fields})
        sized_flavor_for(spec.flavor)
        image_url_for(spec.image)


@settings(max_examples=150)
@given(st.sampled_from(["", "/", "file://", "http://", "https://[", "simulated://"]), st.text())
def test_whatever_an_image_is_called_the_answer_is_a_url_or_a_refusal(start: str, rest: str) -> None:
    with suppress(Refused):
        image_url_for(start + rest)


@pytest.mark.parametrize("operation_id", ["b", "b1", "x" * 128])
def test_every_id_that_a_request_may_have_names_its_operation(operation_id: str) -> None:
    assert OPERATION_ID_RULE.fullmatch(operation_id)
    assert parse_spec(OperationSpec, {"operation": operation_id}).operation == operation_id


@pytest.mark.parametrize(("key", "value"), [("a b", "x"), ("", "x"), ("hw:cpu_policy", "a\nb"), ("k", "v" * 2048)])
def test_an_extra_spec_or_a_property_that_is_no_line_of_text_is_refused(key: str, value: str) -> None:
    flavor = {"vcpus": 1, "memory_mib": 64, "extra_specs": {key: value}}
    for fields in ({**LEAST, "flavor": flavor}, {**LEAST, "image_properties": {key: value}}):
        with pytest.raises(Refused):
            parse_spec(BuildSpec, fields)


def test_a_flavor_spelled_out_keeps_its_extra_specs() -> None:
    spec = FlavorSpec(vcpus=1, memory_mib=64, swap_mib=8, extra_specs={"hw:cpu_policy": "shared"})
    assert sized_flavor_for(spec) == Flavor(
        name="c1-m64-d0-s8", vcpus=1, memory_mib=64, disk_gib=0, swap_mib=8, extra_specs={"hw:cpu_policy": "shared"}
    )
