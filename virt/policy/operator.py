"""From what the operator of a host chose, and what an instance says of its owner, to the choices for that guest."""

from collections.abc import Mapping
from uuid import NAMESPACE_URL, uuid5

from taskvisor.model.operator import MetadataDialect, OperatorChoices
from virt.domain.display import VideoModel
from virt.domain.nova_owner import NovaDialect
from virt.policy.choices import HostChoices, NovaOwnership

PACKAGE_VERSION = "0.0.0-taskvisor"
"""Where Nova writes its package's version: no tool can take it for a Nova's."""
UNKNOWN_OWNER = "taskvisor"
_DIALECTS = {MetadataDialect.NOVA: NovaDialect.V1_1, MetadataDialect.NOVA_1_0: NovaDialect.V1_0}


def choices_for(operator: OperatorChoices, metadata: Mapping[str, str]) -> HostChoices:
    """The choices for a guest with that metadata, of which `user_name`, `user_id`, `project_name` and `project_id` say whose
    it is in Nova's metadata, where the operator wants them. ValueError for a video model that libvirt does not have.
    """
    dialect = _DIALECTS.get(operator.metadata_dialect)
    return HostChoices(
        dialect=operator.dialect,
        vendor=operator.vendor,
        vnc_address=operator.vnc_address,
        vnc_keymap=operator.vnc_keymap,
        video_model=VideoModel(operator.video_model),
        kernel_roots=operator.kernel_roots,
        shared_cpus=operator.shared_cpus,
        dedicated_cpus=operator.dedicated_cpus,
        ceph=operator.ceph,
        nova_owner=None if dialect is None else _nova_ownership_for(dialect, metadata),
    )


def _nova_ownership_for(dialect: NovaDialect, metadata: Mapping[str, str]) -> NovaOwnership:
    user = metadata.get("user_name") or UNKNOWN_OWNER
    project = metadata.get("project_name") or UNKNOWN_OWNER
    return NovaOwnership(
        dialect=dialect,
        package_version=PACKAGE_VERSION,
        user=user,
        user_uuid=metadata.get("user_id") or _id_for("user", user),
        project=project,
        project_uuid=metadata.get("project_id") or _id_for("project", project),
    )


def _id_for(kind: str, name: str) -> str:
    # Keystone's ids are 32 digits too; the same name has the same one on every host, so tools can group by it.
    return uuid5(NAMESPACE_URL, f"taskvisor:{kind}:{name}").hex
