"""Chapters about what goes wrong: an operation that is stuck, records and hosts that differ, an orphan, a store that is lost."""

import signal

import psutil

from taskvisor.model.ids import OperationId, instance_id_for
from tests.system.nodes import wait_until
from tests.system.typed.acts import Between, Chapter, Way, besides, typed
from tests.system.typed.scene import LIMIT_S, Scene
from virt.simulated.outsider import SimulatedOutsider

STUCK_BUILD = OperationId("11111111-1111-4111-8111-111111111111")
SOMEBODY_ELSES = f"instances/{instance_id_for(STUCK_BUILD)}"


def _put_in_its_way(scene: Scene) -> None:
    """Where the guest's directory is to be, there is somebody else's."""
    root = scene.state_dir("kvm8") / "simulated"
    SimulatedOutsider(root).ensure_foreign_directory(instance_id_for(STUCK_BUILD))


def _move_it_away(scene: Scene) -> None:
    """As the runbook says."""
    root = scene.state_dir("kvm8") / "simulated"
    (root / SOMEBODY_ELSES).rename(root / "moved-away")


STUCK: Chapter = (
    Between(what="somebody's directory is in the way", do=_put_in_its_way),
    besides(
        f"launch simulated://debian --name web1 --host kvm8 --id {STUCK_BUILD}",
        "launch web1 is stuck at prepare_disk .Contradiction.",
        f"Try: taskvisor ops show {STUCK_BUILD}",
        code=1,
    ),
    (
        typed("ops list --stuck", f"^{STUCK_BUILD} build web1 kvm8 prepare_disk .*Contradiction: "),
        typed("ops show ID", "^Phase stuck$", "^Failure Contradiction at prepare_disk: ", given={"ID": STUCK_BUILD}),
        typed("ops cancel ID", f"^operation {STUCK_BUILD} is stuck already$", given={"ID": STUCK_BUILD}, code=3),
        typed("verify", "^operation-stuck ", code=1),
    ),
    Between(what="it is moved away", do=_move_it_away),
    typed("ops retry ID", "^web1 is running on kvm8", given={"ID": STUCK_BUILD}),
    typed("ops list --stuck", "^No operation is stuck.$"),
    typed("delete web1", "^web1 is deleted"),
)


def _signal_pool(scene: Scene, number: signal.Signals) -> None:
    """To the processes of kvm8 that run steps; the node itself, and its heartbeat, go on."""
    for process in psutil.Process(scene.pid("worker-kvm8")).children(recursive=True):
        if "steps@kvm8" in " ".join(process.cmdline()) and process.ppid() != scene.pid("worker-kvm8"):
            process.send_signal(number)


CANCELLED: Chapter = (
    Between(what="kvm8 gets no further", do=lambda scene: _signal_pool(scene, signal.SIGSTOP)),
    besides("launch simulated://debian --name web1 --host kvm8 --id c --no-wait", "^c$"),
    typed("ops list", r"^c build web1 \S+ prepare_disk 1/5 ", way=Way.AGAIN),
    typed("ops cancel ID", "^Asked. Watch with: taskvisor ops follow c$", given={"ID": "c"}, then="--no-wait"),
    Between(what="it goes on", do=lambda scene: _signal_pool(scene, signal.SIGCONT)),
    typed("ops follow ID", "^Error: launch web1 was cancelled", given={"ID": "c"}, code=1),
    typed("list", "^No instances."),
)


def _spoil_a_sum(scene: Scene) -> None:
    scene.redis.hincrby(scene.keys.used("kvm7"), "vcpus", 3)


def _lose_a_record(scene: Scene) -> None:
    """The store knows nothing of the instance any more; its host has it, and a copy of its record."""
    instance = scene.catalog.find_instance("lost")
    assert instance is not None
    scene.known["lost"] = instance.id
    copy = scene.state_dir("kvm8") / "simulated/instances" / instance.id / "record.json"
    wait_until(copy.exists, f"{copy}", LIMIT_S)
    scene.redis.delete(scene.keys.instance(instance.id), scene.keys.nics(instance.id))
    scene.redis.srem(scene.keys.instances, instance.id)
    scene.redis.srem(scene.keys.instances_on(instance.host), instance.id)
    scene.redis.hdel(scene.keys.names, instance.name)
    scene.redis.hdel(scene.keys.claims(instance.host), instance.id)


DIFFERENCES: Chapter = (
    Between(what="a hand in Redis", do=_spoil_a_sum),
    typed("verify", "^used-differs kvm7 ", code=1),
    typed(
        "verify --fix CODE",
        "WHAT WAS DONE$",
        given={"CODE": "used-differs"},
        way=Way.ON_A_TERMINAL,
        asks="Mend this finding?",
        keys="y\n",
    ),
    typed("verify", "^Nothing was found: what is recorded is what is there.$", way=Way.AGAIN),
)

ORPHAN: Chapter = (
    (  # two: a store that has not one instance, while a host has guests, is taken for a lost one
        besides("launch simulated://debian --name lost --host kvm8", "^lost is running on kvm8"),
        besides("launch simulated://debian --name known --host kvm7", "^known is running on kvm7"),
    ),
    Between(what="its record is lost", do=_lose_a_record),
    typed("orphans", "^kvm8 domain <lost> ", way=Way.AGAIN),
    typed("orphans keep ID", "^<lost> stays", given={"ID": "<lost>"}),
    typed("orphans", "^kvm8 domain <lost> .* stays"),
    typed("rebuild --from-hosts --merge", "^Written, and the store is open: .* 1 instances"),
    typed("list", "^known active ", "^lost active "),
    besides("delete lost known", "^lost is deleted", "^known is deleted"),
)


def _wait_for_copies(scene: Scene) -> None:
    """Each host has written down what it has."""
    for name in ("web1", "web2"):
        instance = scene.catalog.find_instance(name)
        assert instance is not None
        copy = scene.state_dir(instance.host) / "simulated/instances" / instance.id / "record.json"
        wait_until(copy.exists, f"{copy}", LIMIT_S)


def _flush(scene: Scene) -> None:
    scene.redis.flushall()


LOST_STORE: Chapter = (
    (
        besides("launch simulated://debian --name web1 --host kvm7", "^web1 is running on kvm7"),
        besides("launch simulated://debian --name web2 --host kvm8", "^web2 is running on kvm8"),
    ),
    Between(what="both have a copy of their record", do=_wait_for_copies),
    Between(what="Redis loses everything", do=_flush),
    typed("rebuild --close", "^The store is closed: requests wait. Nodes can be started.$"),
    typed("rebuild --from-hosts --dry-run", "^kvm7 1 1 ", "^kvm8 1 1 ", way=Way.AGAIN),
    typed("list", "^No instances."),
    typed("rebuild --from-hosts", "^Written, and the store is open: 1 networks, .* 2 instances"),
    typed("list", "^web1 active ", "^web2 active "),
    typed("rebuild --open", "^The store is open.$"),
    besides("delete web1 web2", "^web1 is deleted", "^web2 is deleted"),
)
