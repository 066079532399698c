"""Our table in a real kernel's nftables."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from net.command import Ended, run_command
from net.filters import firewall
from net.filters.firewall import Firewall, read_listing
from net.filters.ruleset import Listing, NetworkRules
from net.filters.transactions import Transactions
from taskvisor.model.errors import CannotAsk, Retryable

pytestmark = pytest.mark.real

FIRST = NetworkRules(bridge="brq00000000-01", cidr="10.1.0.0/24", nat=True)
SECOND = NetworkRules(bridge="brq00000000-02", cidr="10.2.0.0/24", nat=False)


@pytest.fixture
def rules(host_namespace: str, tmp_state_dir: Path) -> Firewall:
    return Firewall(Transactions(tmp_state_dir / "lock"))


def test_what_was_set_is_read_back_as_held(rules: Firewall) -> None:
    for network in (FIRST, SECOND):
        rules.ensure_network(network)
    assert read_listing().holds(FIRST)
    assert read_listing().holds(SECOND)
    assert read_listing().bridges() == {FIRST.bridge, SECOND.bridge}


def test_a_network_that_changes_disturbs_no_rule_of_another(rules: Firewall) -> None:
    rules.ensure_network(FIRST)
    before = _chains_of(FIRST)
    rules.ensure_network(SECOND)
    rules.ensure_network(NetworkRules(bridge=SECOND.bridge, cidr="10.3.0.0/24", nat=True))
    rules.ensure_network_absent(SECOND.bridge)
    assert _chains_of(FIRST) == before, "even the handles are the same"
    rules.ensure_network_absent(FIRST.bridge)


def test_the_table_goes_with_the_last_network_and_strangers_tables_stay(rules: Firewall) -> None:
    subprocess.run(["nft", "add table inet other; add chain inet other keep"], check=True)
    rules.ensure_network(FIRST)
    for _ in range(2):
        rules.ensure_network_absent(FIRST.bridge)
    assert subprocess.run(["nft", "list", "tables"], capture_output=True, check=True).stdout == b"table inet other\n"


def test_another_process_sees_a_change_that_this_one_made(rules: Firewall, tmp_state_dir: Path) -> None:
    other = Firewall(Transactions(tmp_state_dir / "lock"))
    rules.ensure_network(FIRST)
    rules.ensure_network(FIRST)
    other.ensure_network_absent(FIRST.bridge)
    rules.ensure_network(FIRST)
    assert read_listing().holds(FIRST)


def test_a_table_that_cannot_be_listed_is_not_taken_for_empty(
    host_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_listing() == Listing()
    monkeypatch.setattr(firewall, "run_command", _failing("list"))
    with pytest.raises(CannotAsk, match="can't list"):
        read_listing()


def test_a_listing_that_is_not_understood_is_not_taken_for_empty(
    host_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        firewall, "run_command", lambda argv, **_: Ended(argv=argv, exit_code=0, stdout=b"?", stderr=b"")
    )
    with pytest.raises(CannotAsk, match="can't read"):
        read_listing()


def test_a_script_that_nft_refuses_changes_nothing_and_says_why(rules: Firewall) -> None:
    with pytest.raises(Retryable, match="can't change nftables"):
        rules.ensure_network(NetworkRules(bridge="brq00000000-03", cidr="10.0.0.0/99", nat=True))
    assert read_listing() == Listing()


def _failing(word: str) -> Callable[..., Ended]:
    real = run_command

    def run(argv: tuple[str, ...], **rest: str) -> Ended:
        if word in argv:
            return Ended(argv=tuple(argv), exit_code=1, stdout=b"", stderr=b"Resource temporarily unavailable")
        return real(argv, **rest)  # type: ignore[arg-type]

    return run


def _chains_of(network: NetworkRules) -> list[bytes]:
    return [
        subprocess.run(
            ["nft", "-a", "list", "chain", "inet", "taskvisor", f"{kind}_{network.bridge}"],
            capture_output=True,
            check=True,
        ).stdout
        for kind in ("to", "from", "nat")
    ]
