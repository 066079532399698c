"""What is published to producers in any language is what the doors take, and what is answered."""

from typing import Any, cast

import pytest
from celery import Celery
from celery.app.trace import trace_task
from jsonschema import Draft202012Validator

from tasks.edge import Edge
from tasks.flows import ALL_FLOWS
from tasks.requests import REQUESTS
from tasks.schemas import CELERYS_ERRORS, files_in, schemas, texts, write_schemas
from taskvisor.model import errors
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.outcome import result_key_for
from taskvisor.model.spec import Spec, parse_spec
from taskvisor.model.urls import celery_url_for
from tests.fixtures.machine import ROOT
from tests.support.fleet import Fleet
from tests.support.published import require_published_arguments
from tests.tasks.edges import open_edge_app

SCHEMAS = {path: schema for path, schema in schemas().items() if path != "index.json"}
HOSTS_OWN = {
    "host.audit_usage",
    "host.check_networks",
    "host.check_orphans",
    "host.clean_image_cache",
    "host.copy_records",
    "host.keep_record",
    "host.keep_records",
    "host.monitor",
    "host.plan",
    "host.prewarm_images",
    "host.reclaim",
    "host.recover",
    "host.refresh_networks",
    "host.remove_image",
    "host.repair",
    "host.retry_deletes",
    "host.sync_power_state",
    "host.sync_power_states",
    "host.tell",
    "host.track",
    "host.verify",
}
"""What nodes ask of hosts, and the client's `verify` and `rebuild`."""
FLEETS_OWN = {
    "builds.time_out",
    "host.advance_drain",
    "host.fan_out",
    "hosts.check",
    "operation.settle",
    "operation.sweep",
}
"""What is done by itself, for the fleet."""


def test_the_files_are_fresh() -> None:
    there = files_in(ROOT / "docs" / "schema")

    assert there == texts(), "run: python -m tasks.schemas docs/schema"


def test_writing_them_removes_those_of_tasks_that_are_gone(tmp_path: Any) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "instance.melt.json").write_text("{}")

    write_schemas(tmp_path)

    assert files_in(tmp_path) == texts()


def test_every_task_that_is_registered_is_published_or_nobodys_to_ask() -> None:
    app = Celery("registry", set_as_current=False)
    Edge(app, lambda: pytest.fail("a task was run")).register()
    steps = {flow.task_name(step.name) + way for flow in ALL_FLOWS for step in flow.steps for way in ("", ".undo")}
    mine = {task for task in app.tasks if not task.startswith("celery.")} - steps

    assert mine == REQUESTS.keys() | HOSTS_OWN | FLEETS_OWN


def test_the_door_takes_what_is_published(redis_url: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[type[Spec]] = []
    judge = Spec.model_validate.__func__  # type: ignore[attr-defined]

    def noted(kind: type[Spec], *args: Any, **options: Any) -> Spec:
        judged.append(kind)
        return cast(Spec, judge(kind, *args, **options))

    monkeypatch.setattr(Spec, "model_validate", classmethod(noted))
    with open_edge_app(redis_url, fleet) as app:
        for task in REQUESTS:
            request = {"id": task, "kwargs": {"nonsense": 1}, "delivery_info": {"routing_key": "compute"}}
            trace_task(app.tasks[task], task, (), {"nonsense": 1}, request=request, app=app)
            assert isinstance(app.backend.get_task_meta(task, cache=False)["result"], Refused), task

    assert judged == [request.takes for request in REQUESTS.values()]


@pytest.mark.parametrize("path", SCHEMAS)
def test_each_file_is_a_schema_of_its_draft(path: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[path])


def test_the_index_names_every_file() -> None:
    index = schemas()["index.json"]
    named = [row[part] for row in index["tasks"].values() for part in ("arguments", "result")]
    named += [path for part, path in index.items() if part != "tasks"]

    assert sorted(named) == sorted(SCHEMAS)


BUILD: dict[str, Any] = {"name": "web1", "image": "debian-12"}
VOLUME = "block:///dev/disk/by-id/x"
TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "the least": ("instance.build", BUILD),
    "a flavor by name": ("instance.build", {**BUILD, "flavor": "m1.tiny"}),
    "a flavor spelled out": ("instance.build", {**BUILD, "flavor": {"vcpus": 1, "memory_mib": 64}}),
    "networks by name and spelled out": (
        "instance.build",
        {
            **BUILD,
            "networks": ["default", {"network": "lan", "mac": "52:54:00:AB:CD:EF", "address": "10.0.0.007"}],
        },
    ),
    "a volume by its source, and one spelled out": (
        "instance.build",
        {**BUILD, "host": "kvm1", "volumes": [VOLUME, {"source": "rbd://pool/image", "readonly": True}]},
    ),
    "nulls for what has a default of null": ("instance.build", {**BUILD, "host": None, "config_drive": None}),
    "enumerations as texts": ("instance.build", {**BUILD, "on_failure": "keep", "config_drive": "nocloud"}),
    "a volume to attach, by its source": ("instance.attach_volume", {"instance": "web1", "volume": VOLUME}),
    "a NIC to attach, by its network": ("instance.attach_interface", {"instance": "web1", "interface": "lan"}),
    "labels": ("host.label", {"host": "kvm1", "labels": {"rack": "b2", "ssd": ""}, "remove": ["old"]}),
    "a network": ("network.create", {"name": "lan", "cidr": "10.5.0.0/24"}),
    "rules": (
        "security_group.create",
        {"name": "web", "rules": [{"direction": "ingress", "protocol": "tcp", "first_port": 80}]},
    ),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_the_door_takes_the_schema_takes(kind: str) -> None:
    task, fields = TAKEN[kind]

    parse_spec(REQUESTS[task].takes, fields)
    require_published_arguments(task, fields)


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing": ("instance.build", {}),
    "a number for a name": ("instance.build", {**BUILD, "name": 7}),
    "a name that is a path": ("instance.build", {**BUILD, "name": "../etc"}),
    "an unknown field": ("instance.build", {**BUILD, "imageFormat": "raw"}),
    "a text for a number": ("instance.build", {**BUILD, "flavor": {"vcpus": "2", "memory_mib": 64}}),
    "null where none is meant": ("instance.build", {**BUILD, "flavor": None}),
    "a text for a list": ("instance.build", {**BUILD, "ssh_keys": "ssh-ed25519 AAAA me"}),
    "an unknown word": ("instance.build", {**BUILD, "on_failure": "shrug"}),
    "a key that is none": ("instance.build", {**BUILD, "metadata": {"a/b": "c"}}),
    "a group's MAC": ("instance.build", {**BUILD, "networks": [{"network": "lan", "mac": "01:54:00:00:00:01"}]}),
    "too many networks": ("instance.build", {**BUILD, "networks": ["lan"] * 9}),
    "half a checksum": ("instance.build", {**BUILD, "image_sha256": "ab12"}),
    "too long a wait": ("instance.stop", {"instance": "web1", "wait_turn_s": 3601}),
    "a truth for a number": ("instance.stop", {"instance": "web1", "timeout_s": True}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_schema_refuses_the_door_refuses(kind: str) -> None:
    task, fields = REFUSED[kind]

    with pytest.raises(Refused):
        parse_spec(REQUESTS[task].takes, fields)
    with pytest.raises(AssertionError, match="refuses what was said"):
        require_published_arguments(task, fields)


def test_a_field_that_is_unknown_is_named_as_its_caller_wrote_it() -> None:
    with pytest.raises(Refused, match=r"^imageFormat: unknown field; remove it or check its spelling$"):
        parse_spec(REQUESTS["instance.build"].takes, {**BUILD, "imageFormat": "raw"})
    flavor = {"vcpus": 1, "memory_mib": 64, "diskGib": 5}
    with pytest.raises(Refused, match=r"^flavor\.diskGib: unknown field"):
        parse_spec(REQUESTS["instance.build"].takes, {**BUILD, "flavor": flavor})
    with pytest.raises(Refused) as told:
        parse_spec(REQUESTS["instance.build"].takes, {**BUILD, "x" * 100_000: 1})
    assert len(str(told.value)) < 200


def test_what_a_field_is_for_is_said_beside_it() -> None:
    fields = SCHEMAS["arguments/instance.stop.json"]["properties"]

    assert fields["timeout_s"]["description"] == (
        "How long the guest may take; 0 switches it off at once; null: the host's setting."
    )
    assert fields["wait_turn_s"]["description"].startswith("How long it waits while another operation holds")


def test_every_error_of_ours_is_told_of() -> None:
    told = {one.get("const") for one in SCHEMAS["error.json"]["properties"]["exc_type"]["anyOf"]}
    ours = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, TaskvisorError) and kind is not TaskvisorError
    }

    assert told == ours | CELERYS_ERRORS.keys() | {None}


def test_the_prefix_of_results_is_celerys(redis_url: str) -> None:
    app = Celery("prefix", backend=celery_url_for(redis_url), set_as_current=False)

    assert app.backend.get_key_for_task("x") == result_key_for("x").encode()
    app.close()
