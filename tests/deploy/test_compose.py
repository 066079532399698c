"""docker-compose.yml, as compose reads it, and against the settings and commands that there are. No Docker runs for it."""

import os
import re
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml
from typer.main import get_command

from taskvisor.cli.app import app
from taskvisor.settings import Settings
from tests.fixtures.machine import ROOT, require_tool

PROFILES = ("simulated", "kvm")
OURS = ("control", "beat-1", "beat-2", "flower", "worker", "simulated-host")


@cache
def composed() -> dict[str, Any]:
    """What compose makes of it: it has been held against compose's own schema then."""
    require_tool("docker-compose")
    argv = ["docker-compose", "-f", str(ROOT / "docker-compose.yml")]
    argv += [word for profile in PROFILES for word in ("--profile", profile)]
    environment = {**os.environ, "TASKVISOR_HOST": "kvm1"}
    done = subprocess.run([*argv, "config"], capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = yaml.safe_load(done.stdout)
    return read


def test_compose_takes_it_with_every_profile() -> None:
    assert set(composed()["services"]) == {"redis", *OURS}


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_a_command_that_there_is(service: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    word = composed()["services"][service]["command"]

    assert (word if isinstance(word, str) else word[0]) in commands


@pytest.mark.parametrize("service", OURS)
def test_what_a_service_is_told_is_a_setting(service: str) -> None:
    told = composed()["services"][service]["environment"]
    ours = {name.removeprefix("TASKVISOR_").lower(): value for name, value in told.items() if "TASKVISOR_" in name}

    assert ours.keys() <= Settings.model_fields.keys()
    Settings.model_validate(ours)


def test_nothing_is_open_to_the_world() -> None:
    published = [port for service in composed()["services"].values() for port in service.get("ports", ())]

    assert published
    assert [port for port in published if not str(port).startswith("127.0.0.1:")] == []


def test_redis_keeps_what_it_is_told_and_evicts_nothing() -> None:
    command = " ".join(composed()["services"]["redis"]["command"].split())

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert composed()["services"]["redis"]["volumes"]


def test_without_a_profile_no_host_is_started() -> None:
    services = composed()["services"]
    assert {name for name, service in services.items() if "profiles" in service} == {"worker", "simulated-host"}


def test_the_image_is_made_of_files_and_packages_that_there_are() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for word in words.split()[:-1]]

    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert 'ENTRYPOINT ["taskvisor"]' in text
