"""`python -m workers.preflight`: what this machine lacks, a sentence a line, before anything is started. Exit code 1 if any."""

import sys
from collections.abc import Iterator

from net.preflight import list_problems as list_net_problems
from taskvisor.model.errors import TaskvisorError
from taskvisor.settings import Settings, read_settings
from taskvisor.state.connection import asking, open_redis
from virt.hypervisor import LibvirtHypervisor
from virt.preflight import list_problems as list_virt_problems
from workers.logs import configure_logs


def list_problems(settings: Settings) -> Iterator[str]:
    """Each thing that would keep a guest from being built here, and what to do about it."""
    yield from _redis_problems(settings)
    if settings.driver == "simulated":
        return
    yield from list_virt_problems(settings.state_dir)
    yield from list_net_problems(settings.state_dir)
    try:
        LibvirtHypervisor(settings.libvirt_uri, virt_type=settings.virt_type).read_facts()
    except TaskvisorError as problem:
        yield f"libvirt at {settings.libvirt_uri}: {problem}"


def _redis_problems(settings: Settings) -> Iterator[str]:
    client = open_redis(settings.redis_url, timeout_s=settings.redis_timeout_s)
    try:
        with asking("say that it lives"):
            policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
            version = client.info("server")["redis_version"]
    except TaskvisorError as problem:
        yield str(problem)
        return
    if policy != "noeviction":
        yield f"Redis evicts keys when memory is short (maxmemory-policy {policy}); set it to noeviction, or records vanish"
    if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
        yield f"Redis is {version}; 6.2 or newer is needed (BLMOVE)"


def main() -> int:
    settings = read_settings()
    configure_logs(settings)
    problems = list(list_problems(settings))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
