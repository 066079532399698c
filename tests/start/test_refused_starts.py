"""A real node that is not the host that its settings say exits in words and takes nothing; adopting it lets it start."""

import subprocess
from pathlib import Path

import pytest

from taskvisor.cli.nodes import adoption_of, nodes_of
from taskvisor.cli.processes import Program
from taskvisor.model.identity import HostIdentity
from taskvisor.model.ids import HostName
from taskvisor.settings import Settings
from taskvisor.state.connection import open_redis
from workers.identity_file import read_identity, replace_identity

pytestmark = pytest.mark.real
LIMIT_S = 300.0
OTHERS = HostIdentity(
    id="another", host=HostName("kvm1"), machine_id=None, hypervisor_id=None, created_at=1.0, registered=True
)


@pytest.fixture
def renamed(redis_url: str, tmp_state_dir: Path) -> Settings:
    """The settings say kvm2, the file in the state directory says kvm1."""
    replace_identity(tmp_state_dir, OTHERS)
    return Settings(
        redis_url=redis_url, state_dir=tmp_state_dir, host="kvm2", driver="simulated", allow_volatile_redis=True
    )


def run(program: Program) -> tuple[int, str]:
    """Exit code, and all that it said."""
    done = subprocess.run(
        program.argv,
        env=dict(program.environment),
        cwd=program.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT_S,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout


def test_a_renamed_host_exits_takes_nothing_and_starts_when_it_is_adopted(renamed: Settings) -> None:
    steps = nodes_of(renamed)[0]
    client = open_redis(renamed.redis_url, timeout_s=5)
    client.lpush("host.kvm2", "a message")

    code, said = run(steps)

    assert code == 1
    assert "host kvm2 does not start: this machine is host kvm1 by" in said
    assert (client.llen("host.kvm2"), client.exists("taskvisor:host:kvm2")) == (1, 0)
    assert read_identity(renamed.state_dir) == OTHERS

    assert run(adoption_of(renamed))[0] == 0
    adopted = read_identity(renamed.state_dir)
    assert adopted is not None
    assert (adopted.host, adopted.registered) == ("kvm2", True)
    client.close()
