"""The step that every flow has which starts a guest that was built before: what its cloud-init reads is up to date."""

import structlog

from tasks.guest_plans import layout_of, seed_of
from taskvisor.flow.step import NoFacts, Step, StepContext
from taskvisor.model.errors import CannotAsk

log = structlog.get_logger(__name__)


class RenewSeed(Step[NoFacts]):
    """A guest that is off has its seed as the records say now; one that runs keeps what it has open.

    Nothing is to be undone: the seed is what a guest is told at its next start, and the records that it is made from stay.
    """

    name = "renew_seed"
    tries = 5

    def do(self, ctx: StepContext) -> NoFacts:
        if not ctx.instance.seed_known or _is_on(ctx):
            return NoFacts()
        try:
            vendor_data = ctx.ports.vendor_data.read()
        except CannotAsk as problem:
            # The seed that is there is whole, and a guest that stays off would be worse than one told what it knew.
            log.warning("seed_kept", reason=str(problem))
            return NoFacts()
        ctx.ports.disks.ensure_seed(layout_of(ctx).seed, seed_of(ctx, vendor_data))
        return NoFacts()


def _is_on(ctx: StepContext) -> bool:
    domain = ctx.ports.hypervisor.read_domain(ctx.instance.id)
    return domain is not None and not domain.power_state.is_down
