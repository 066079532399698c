"""Chapters about hosts and what runs beside them: how a fleet is started, a host taken out, given back, and lost for good."""

import shutil

from tests.system.nodes import wait_until
from tests.system.typed.acts import Act, Between, Chapter, Way, besides, typed
from tests.system.typed.scene import LIMIT_S, Scene

CENTRAL = "central"
HOSTS = ("kvm7", "kvm8", "kvm9")


def worker_of(host: str) -> Act:
    """A host is started."""
    ready = (f"steps@{host} ready", f"control@{host} ready", f"host {host}: both nodes are started")
    return typed("worker", *ready, way=Way.STAYS, at=host, name=f"worker-{host}")


def up(host: str) -> Between:
    return Between(
        what=f"{host} has told what it has",
        do=lambda scene: wait_until(lambda: scene.is_up(host), f"{host} to be up", LIMIT_S),
    )


OPENING: Chapter = (
    tuple(worker_of(host) for host in HOSTS),
    typed("beat", r"Sending due task sweep \(operation.sweep\)", way=Way.STAYS, at=CENTRAL, name="beat"),
    *(up(host) for host in HOSTS),
)
"""The fleet that all chapters are played on."""

SERVICES: Chapter = (
    (
        typed("preflight", "^redis latency .* ok", "^identity this machine is, or may become, host kvm7 ok"),
        typed("control", f"requests@{CENTRAL} ready", way=Way.STAYS, at=CENTRAL, name="control"),
        typed("flower", r"Connected to reliable-redis\+socket://", way=Way.STAYS, at=CENTRAL, name="flower"),
    ),
    Between(what="control is stopped", do=lambda scene: scene.end("control")),
    Between(what="Flower is stopped", do=lambda scene: scene.end("flower")),
)

MAINTENANCE: Chapter = (
    (
        besides("launch simulated://a --name a --host kvm7", "^a is running on kvm7"),
        besides("launch simulated://b --name b --host kvm7", "^b is running on kvm7"),
    ),
    typed(
        "host disable HOST --reason …", "^kvm8 takes no new instances$", given={"HOST": "kvm8", "…": "its fan is loud"}
    ),
    typed("hosts", "^kvm8 disabled: its fan is loud "),
    typed("host enable", "^kvm8 takes new instances$", then="kvm8"),
    typed("host enable HOST", "^kvm8 takes new instances$", given={"HOST": "kvm8"}),
    typed("host drain HOST --dry-run --stop-guests", "^a stops ", "^b stops ", given={"HOST": "kvm7"}),
    typed(
        "host drain HOST --reason 'new kernel' --deadline 2h --stop-guests --watch",
        "^a is not in the way any more$",
        "^kvm7 is drained: nothing runs there$",
        given={"HOST": "kvm7"},
    ),
    (
        typed("host drain HOST --watch", "^kvm7 is drained: nothing runs there$", given={"HOST": "kvm7"}),
        typed("host show HOST", "^State drained: new kernel$", "^Stopped by it 2 guests", given={"HOST": "kvm7"}),
        typed("host show", "^State up$", then="kvm8"),
    ),
    typed("host undrain HOST --start-guests", "^kvm7 takes newcomers as before its drain$", given={"HOST": "kvm7"}),
    typed("list", "^a active ", "^b active ", way=Way.AGAIN),
    besides("stop a b", "^a is stopped", "^b is stopped"),
    typed(
        "host drain HOST --reason sold --stop-guests --watch",
        "^a off ",
        "^kvm7 is drained: nothing runs there$",
        given={"HOST": "kvm7"},
    ),
    besides("host undrain kvm7", "^kvm7 takes newcomers as before its drain$"),
    typed(
        "host force-down HOST --reason 'no power'",
        "^kvm9 is treated as down; its guests are left alone, and not fenced$",
        given={"HOST": "kvm9"},
    ),
    (
        typed("hosts", r"^kvm9 down, forced \(and yet it speaks\): no power "),
        typed("verify --host HOST", "^host-forced-down-speaks kvm9 kvm9 ", given={"HOST": "kvm9"}, code=1),
    ),
    typed("host force-down HOST --up", "^kvm9 is believed again$", given={"HOST": "kvm9"}),
    besides("delete a b", "^a is deleted", "^b is deleted"),
)


def _lose_the_disks(scene: Scene) -> None:
    """The machine is dead, its name goes to another: a state directory that nothing is in."""
    scene.end("worker-kvm9")
    shutil.rmtree(scene.state_dir("kvm9"))


def _wait_until_silent(scene: Scene) -> None:
    wait_until(lambda: not scene.is_up("kvm9"), "the heartbeat of kvm9 to lapse", LIMIT_S)


ANOTHER_MACHINE: Chapter = (
    Between(what="kvm9 has died, with its disks", do=_lose_the_disks),
    typed("worker", "belongs to another machine", way=Way.BY_CTRL_C, at="kvm9"),
    typed(
        "worker --adopt-identity",
        "steps@kvm9 ready",
        "control@kvm9 ready",
        way=Way.STAYS,
        at="kvm9",
        name="worker-kvm9",
    ),
    up("kvm9"),
    typed(
        "host remove HOST", "a node of it speaks; stop its worker", given={"HOST": "kvm9"}, then="--reason sold", code=1
    ),
    Between(what="its worker is stopped", do=lambda scene: scene.end("worker-kvm9")),
    Between(what="it has fallen silent", do=_wait_until_silent),
    besides("host force-down kvm9 --reason sold", "^kvm9 is treated as down"),
    typed("host remove HOST --reason sold", "^kvm9 is forgotten$", given={"HOST": "kvm9"}, way=Way.AGAIN),
    besides("host show kvm9", "there is no host 'kvm9'", code=1),
    Between(
        what="a removed host whose worker is started again is a new host",
        do=lambda scene: scene.perform(worker_of("kvm9")),
    ),
    up("kvm9"),
)

ALONE = {"TASKVISOR_REDIS_URL": "", "TASKVISOR_ENV_FILE": "<root>/alone/taskvisor.env"}
"""Of a second terminal on a machine with a Redis of its own: it knows no more than the first has written down."""

AN_UP = {"TASKVISOR_REDIS_URL": ""}

UP: Chapter = (
    typed(
        "up --closed",
        "The store is closed: requests wait.",
        "everything is up",
        way=Way.STAYS,
        at="alone",
        name="up-closed",
        settings=AN_UP,
    ),
    besides("launch simulated://debian --name web1 --id b --no-wait", "^b$", at="alone", settings=ALONE),
    typed("rebuild --open", "^The store is open.$", at="alone", settings=ALONE),
    typed("ops follow ID", "^web1 is running on alone", given={"ID": "b"}, way=Way.AGAIN, at="alone", settings=ALONE),
    Between(what="it is told to stop", do=lambda scene: scene.end("up-closed")),
    typed("up", "everything is up", way=Way.STAYS, at="alone", name="up", settings=AN_UP),
    typed("list", "^web1 active ", at="alone", settings=ALONE),
    typed("delete NAME", "^web1 is deleted", given={"NAME": "web1"}, at="alone", settings=ALONE),
    Between(what="it is told to stop", do=lambda scene: scene.end("up")),
)
