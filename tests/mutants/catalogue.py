"""Every mutant that there is."""

from tests.mutants.door_mutants import DOOR_MUTANTS
from tests.mutants.host_mutants import HOST_MUTANTS
from tests.mutants.image_mutants import IMAGE_MUTANTS
from tests.mutants.judgement_mutants import JUDGEMENT_MUTANTS
from tests.mutants.movement_mutants import MOVEMENT_MUTANTS
from tests.mutants.runner_mutants import RUNNER_MUTANTS
from tests.mutants.store_mutants import STORE_MUTANTS
from tests.mutants.transport_mutants import TRANSPORT_MUTANTS
from tests.mutants.volume_mutants import VOLUME_MUTANTS

MUTANTS = (
    *RUNNER_MUTANTS,
    *JUDGEMENT_MUTANTS,
    *MOVEMENT_MUTANTS,
    *STORE_MUTANTS,
    *DOOR_MUTANTS,
    *HOST_MUTANTS,
    *IMAGE_MUTANTS,
    *TRANSPORT_MUTANTS,
    *VOLUME_MUTANTS,
)
