"""What the steps that plug a guest's NICs have its host's metadata service say to it."""

from collections.abc import Sequence

import structlog

from taskvisor.flow.ports import GuestOnHost
from taskvisor.model.errors import CannotAsk
from taskvisor.model.plan import VifPlan
from virt.seeds.metadata import metadata_documents_for

log = structlog.get_logger(__name__)


def ensure_guest_told(ctx: GuestOnHost, vifs: Sequence[VifPlan]) -> None:
    """By each of the NICs, which are plugged, the guest is told who it is; nothing where the host's operator has no such service.

    As with its seed (tasks/seeding.py): a guest whose record has not all that it was built with goes on being told what it was,
    and so does one while the operator's vendor data can't be read.
    """
    if not ctx.ports.limits.metadata_service:
        for vif in vifs:
            ctx.ports.fabric.ensure_told(vif, {})
        return
    if not ctx.instance.seed_known:
        return
    try:
        vendor_data = ctx.ports.vendor_data.read()
    except CannotAsk as problem:
        log.warning("metadata_kept", reason=str(problem))
        return
    documents = metadata_documents_for(ctx.instance, vifs, vendor_data=vendor_data)
    for vif in vifs:
        ctx.ports.fabric.ensure_told(vif, documents)
