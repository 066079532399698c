"""What the operator chose, and the guest's metadata say, as choices for that guest."""

from dataclasses import replace

import pytest
from lxml import etree

from taskvisor.model.operator import Dialect, MetadataDialect, OperatorChoices, Vendor
from tests.virt.sample_guests import INSTANCE, PC_HOST
from virt.domain import render
from virt.domain.display import VideoModel
from virt.domain.nova_owner import NovaDialect
from virt.layout import disk_layout_for
from virt.policy import HostChoices, choices_for, domain_config_for

OWNER = {"user_name": "ada", "user_id": "u1", "project_name": "engine", "project_id": "p1"}


def test_an_operator_who_chooses_nothing_has_the_policys_own_choices() -> None:
    assert choices_for(OperatorChoices(), OWNER) == HostChoices()


def test_every_choice_reaches_the_guest() -> None:
    vendor = Vendor(manufacturer="Acme", product="VM", version="1", serial="s")
    operator = OperatorChoices(
        dialect=Dialect.NOVA,
        vendor=vendor,
        vnc_address="0.0.0.0",  # noqa: S104 - as an operator may
        vnc_keymap="en-us",
        video_model="cirrus",
        kernel_roots=("/srv/kernels",),
        shared_cpus=frozenset({1}),
    )
    assert choices_for(operator, {}) == HostChoices(
        dialect=Dialect.NOVA,
        vendor=vendor,
        vnc_address="0.0.0.0",  # noqa: S104 - as an operator may
        vnc_keymap="en-us",
        video_model=VideoModel.CIRRUS,
        kernel_roots=("/srv/kernels",),
        shared_cpus=frozenset({1}),
    )


@pytest.mark.parametrize(
    ("asked", "dialect"), [(MetadataDialect.NOVA, NovaDialect.V1_1), (MetadataDialect.NOVA_1_0, NovaDialect.V1_0)]
)
def test_novas_metadata_name_the_owner_that_the_instances_metadata_name(
    asked: MetadataDialect, dialect: NovaDialect
) -> None:
    instance = replace(INSTANCE, metadata=OWNER, ports=())
    choices = choices_for(OperatorChoices(metadata_dialect=asked), instance.metadata)
    layout = disk_layout_for(instance, instances_dir="/srv", machine=PC_HOST.machine)
    domain = etree.fromstring(render(domain_config_for(instance, layout, (), PC_HOST, choices=choices)))
    user = domain.find(f"metadata/{{{dialect}}}instance/{{{dialect}}}owner/{{{dialect}}}user")
    project = domain.find(f"metadata/{{{dialect}}}instance/{{{dialect}}}owner/{{{dialect}}}project")
    assert user is not None
    assert project is not None
    assert (user.text, user.get("uuid")) == ("ada", "u1")
    assert (project.text, project.get("uuid")) == ("engine", "p1")


def test_an_owner_that_is_not_named_is_ours_and_one_without_id_has_the_same_on_every_host() -> None:
    nova = OperatorChoices(metadata_dialect=MetadataDialect.NOVA)
    unknown, ada = choices_for(nova, {}).nova_owner, choices_for(nova, {"user_name": "ada"}).nova_owner
    assert unknown is not None
    assert ada is not None
    assert (unknown.user, unknown.project, ada.user) == ("taskvisor", "taskvisor", "ada")
    assert len({unknown.user_uuid, unknown.project_uuid, ada.user_uuid}) == 3
    assert choices_for(nova, {"user_name": "ada"}).nova_owner == ada
