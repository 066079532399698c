"""How many queues a NIC has."""

from dataclasses import replace

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.records import Instance
from tests.virt.sample_guests import INSTANCE, vif_of
from virt.policy import options_of
from virt.policy.nics import nics_for
from virt.policy.queues import MOST_QUEUES, queues_for

PORT = INSTANCE.ports[0]
MULTIQUEUE = {"hw:vif_multiqueue_enabled": "yes"}


def guest(*, vcpus: int = 4, specs: dict[str, str] | None = None, model: str | None = None) -> Instance:
    flavor = replace(INSTANCE.flavor, vcpus=vcpus, extra_specs=specs or {})
    return replace(INSTANCE, flavor=flavor, image_properties={} if model is None else {"hw_vif_model": model})


def test_a_nic_has_one_queue_where_nobody_asks_for_more() -> None:
    assert queues_for(PORT, guest()) == 1


@pytest.mark.parametrize(("port", "specs"), [(0, {}), (1, MULTIQUEUE), (0, MULTIQUEUE)])
def test_a_queue_for_each_cpu_when_the_port_or_the_flavor_says_so(port: int, specs: dict[str, str]) -> None:
    assert queues_for(replace(PORT, queues=port), guest(specs=specs)) == 4
    assert queues_for(replace(PORT, queues=port), guest(vcpus=1, specs=specs)) == 1
    assert queues_for(replace(PORT, queues=port), guest(vcpus=300, specs=specs)) == MOST_QUEUES


def test_a_number_that_the_port_says_counts_whatever_the_flavor_says() -> None:
    assert queues_for(replace(PORT, queues=2), guest(specs=MULTIQUEUE)) == 2


def test_a_card_with_one_queue_has_one() -> None:
    assert queues_for(replace(PORT, queues=0), guest(model="e1000")) == 1


@pytest.mark.parametrize(
    ("queues", "model", "reason"), [(257, None, "0 .* to 256"), (-1, None, "to 256"), (2, "e1000", "has one")]
)
def test_what_no_tap_or_card_has_is_refused(queues: int, model: str | None, reason: str) -> None:
    with pytest.raises(Refused, match=f"queues {queues} of port {PORT.id}.*{reason}"):
        queues_for(replace(PORT, queues=queues), guest(model=model))


def test_the_card_has_as_many_queues_as_its_tap_and_any_backend() -> None:
    asking = guest(specs=MULTIQUEUE)
    vif = replace(vif_of(PORT), queues=queues_for(PORT, asking))
    (nic,) = nics_for([vif], options_of(asking), 4)
    assert nic.driver is not None
    assert (nic.driver.queues, nic.driver.name) == (4, None)
