"""What a machine lacks is said in sentences, also when what is asked does not answer."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskvisor.settings import Settings
from tests.fixtures.hosts import Libvirtd
from virt import connection
from workers.preflight import list_problems

pytestmark = pytest.mark.real


def libvirt_problems(redis_url: str, state_dir: Path, uri: str) -> list[str]:
    settings = Settings(redis_url=redis_url, state_dir=state_dir, libvirt_uri=uri, allow_volatile_redis=True)
    return [problem for problem in list_problems(settings) if problem.startswith("libvirt at")]


@contextmanager
def hung(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_libvirtd_that_answers_is_no_problem(
    redis_url: str, tmp_state_dir: Path, libvirtd: Libvirtd, host_namespace: str
) -> None:
    assert libvirt_problems(redis_url, tmp_state_dir, libvirtd.uri) == []


def test_a_libvirtd_that_hangs_is_one_sentence(
    redis_url: str,
    tmp_state_dir: Path,
    libvirtd: Libvirtd,
    host_namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "OPEN_LIMIT_S", 1.0)
    with hung(libvirtd.pid):
        (problem,) = libvirt_problems(redis_url, tmp_state_dir, libvirtd.uri)
    assert "takes connections at" in problem
    assert "see whether it hangs" in problem
