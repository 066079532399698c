"""The ladder of fixtures that every test may stand on; each rung lives in its own module of `tests/fixtures`.

    redis_url           an empty database of a private redis-server
    open_redis_server   servers of one's own, to be stopped, killed and started again
    tmp_state_dir       a state directory with a short path
    host_namespace      the calling thread is in a network namespace: the "host" of the test
    libvirt_uri         a private libvirtd, in the session's network namespace
    ceph                a private Ceph cluster in memory, that this libvirtd's guests reach
    guest_image         a small Linux that boots, answers to ACPI and uses DHCP
    debian_image        a Debian with cloud-init and sshd, for tests marked `slow`

Nothing is skipped: what a test asks for and the machine lacks is a failure with a sentence. After every test marked
`real`, `tests/fixtures/leftovers.py` proves that the test left nothing on its host.
"""

import gc
import signal

import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = (
    "tests.fixtures.turns",
    "tests.fixtures.redis_servers",
    "tests.fixtures.hosts",
    "tests.fixtures.guests",
    "tests.fixtures.ceph",
    "tests.fixtures.debian",
    "tests.fixtures.leftovers",
)

# A crowded machine is no reason for a test to fail: no example has a deadline, and how long one takes to draw is not judged.
settings.register_profile("taskvisor", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("taskvisor")

# A shell's background job ignores these two, and all that it starts does too: what is tested must be interruptible.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# Of the traceback of an error that a test provokes, a drawing of every frame's source costs a second and is read by nobody.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no search for garbage, and some tests ask for one, goes through it again."""
    gc.collect()
    gc.freeze()
