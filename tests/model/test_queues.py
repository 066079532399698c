"""taskvisor/model/queues.py: names lead back to hosts, and no host's queue reads as the list of another."""

import pytest

from taskvisor.model.queues import COMPUTE_QUEUE, dead_key, host_of_queue, inflight_key, queues_of, reads_as_a_list

HOSTS = ("kvm1", "kvm1.lab", "control", "dead", "host", "host.kvm1", "a.control.b")


@pytest.mark.parametrize("host", HOSTS)
def test_both_queues_of_a_host_are_its_own(host: str) -> None:
    assert [host_of_queue(queue) for queue in queues_of(host)] == [host, host]


def test_the_queue_of_all_is_nobodys() -> None:
    assert host_of_queue(COMPUTE_QUEUE) is None


@pytest.mark.parametrize("name", ["kvm1.control", "kvm1.dead", "kvm1.inflight.kvm2"])
def test_a_name_whose_queue_would_be_a_list_of_another_host_is_told(name: str) -> None:
    assert reads_as_a_list(name)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("other", HOSTS)
def test_no_two_hosts_share_a_list(host: str, other: str) -> None:
    def lists_of(name: str) -> set[str]:
        return {key for queue in queues_of(name) for key in (queue, dead_key(queue), inflight_key(queue, name))}

    assert not reads_as_a_list(host)
    assert host == other or not lists_of(host) & lists_of(other)
