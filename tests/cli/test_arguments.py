"""What is typed at `taskvisor launch`."""

from pathlib import Path

import pytest

from taskvisor.cli.arguments import flavor_fields_for, image_for, pairs_for, ssh_keys_for, user_data_for
from taskvisor.cli.exits import UsageError
from taskvisor.model.records import Flavor

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFoo me@here"


def test_a_path_becomes_absolute_and_all_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert image_for("./a.qcow2") == str(tmp_path / "a.qcow2")
    assert image_for("../a.qcow2") == str(tmp_path.parent / "a.qcow2")
    assert image_for("/srv/a.qcow2") == "/srv/a.qcow2"
    assert image_for("https://h/a.qcow2") == "https://h/a.qcow2"
    assert image_for("debian-12") == "debian-12"


@pytest.mark.parametrize("option", ["--metadata", "--property"])
def test_pairs_have_each_key_once_and_the_option_is_named_when_not(option: str) -> None:
    assert pairs_for(["a=1", "b=x=y", "c="], option) == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(UsageError, match=f"{option} 'a': must be KEY=VALUE"):
        pairs_for(["a"], option)
    with pytest.raises(UsageError, match=f"{option} a: is given twice"):
        pairs_for(["a=1", "a=2"], option)


def test_a_flavor_with_extra_specs_is_spelled_out_and_keeps_its_own() -> None:
    specs = {"hw:cpu_policy": "dedicated", "hw:cpu_cores": "2"}
    flavor = Flavor(name="own", vcpus=2, memory_mib=64, disk_gib=3, swap_mib=8, ephemeral_gib=1, extra_specs=specs)

    assert flavor_fields_for(flavor, {"hw:cpu_policy": "shared"}) == {
        "vcpus": 2,
        "memory_mib": 64,
        "disk_gib": 3,
        "swap_mib": 8,
        "ephemeral_gib": 1,
        "extra_specs": {"hw:cpu_policy": "shared", "hw:cpu_cores": "2"},
    }


def test_keys_are_given_as_text_or_as_a_file_of_them(tmp_path: Path) -> None:
    file = tmp_path / "authorized_keys"
    file.write_text(f"# mine\n\n{KEY}\n{KEY} too\n")
    assert ssh_keys_for([KEY, str(file)]) == [KEY, KEY, f"{KEY} too"]


def test_a_private_key_never_leaves(tmp_path: Path) -> None:
    file = tmp_path / "id_ed25519"
    file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match=r"is a private key, which must stay here; give .*id_ed25519\.pub"):
        ssh_keys_for([str(file)])


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: No such file"):
        ssh_keys_for([str(tmp_path / "none")])
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n")
    with pytest.raises(UsageError, match="holds no key"):
        ssh_keys_for([str(empty)])
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        user_data_for(str(binary))
    large = tmp_path / "large"
    large.write_text("x" * 70_000)
    with pytest.raises(UsageError, match="is larger than 65535 bytes"):
        user_data_for(str(large))
    with pytest.raises(UsageError, match="can't be read"):
        user_data_for("nul\0path")
