"""Chapters about guests: the first one, those of the demo, where their disks come from, and what is asked of them."""

from tests.fixtures.machine import ROOT
from tests.support.pages import blocks_of
from tests.system.typed.acts import Between, Chapter, Way, besides, typed
from tests.system.typed.scene import Scene

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OPERATION = rf" on kvm\d: ({UUID})$"
ADDRESS = r"10\.152\.\d+\.\d+"
DEBIAN = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
REGISTER_DEBIAN = f"image register debian-12 {DEBIAN}"
KEY = {"…": "<src>/.ssh/id_ed25519.pub"}
LAPTOP = "laptop"


def _write_spec_file(scene: Scene) -> None:
    """The page's own, but for the image, of which this machine has another path."""
    (spec,) = blocks_of((ROOT / "docs/commands.md").read_text(), "yaml")[:1]
    assert "/srv/debian.qcow2" in spec
    guest = scene.checkout / ".cache/guest/guest.qcow2"
    (scene.checkout / "two.yaml").write_text(spec.replace("/srv/debian.qcow2", str(guest)))


def _let_it_speak(scene: Scene) -> None:
    """A simulated guest says nothing on its serial line; this is where QEMU writes what a real one says."""
    instance = scene.catalog.find_instance("web1")
    assert instance is not None
    log = scene.state_dir(instance.host) / "instances" / instance.id / "console.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number}\n" for number in range(1, 21)))
    scene.known["web1_host"] = instance.host


FIRST_VM: Chapter = (
    typed(REGISTER_DEBIAN, "^debian-12 is registered$"),
    typed(
        "launch debian-12 --name web1 --flavor c1-m1024-d10 --ssh-key ~/.ssh/id_ed25519.pub",
        rf"^web1 is running on kvm\d, {ADDRESS} ",
        given={"~/.ssh/id_ed25519.pub": KEY["…"]},  # as a shell spells it out
        keeps={"build": OPERATION},
    ),
    typed(
        "show web1",
        "^Name web1$",
        "^State active$",
        "^Flavor c1-m1024-d10: 1 CPUs, 1024 MiB, disk of 10 GiB$",
        keeps={"web1": rf"^Id ({UUID})$", "web1_host": r"^Host (kvm\d)$", "web1_address": rf"^NIC 0 ({ADDRESS}) on"},
    ),
    (
        typed("ssh web1 --user debian", "^ssh was told: -l debian <web1_address>$", at="<web1_host>"),
        typed(
            "ssh NAME [-- ARGS]",
            "^ssh was told: <web1_address> uname -a$",
            given={"NAME": "web1", "[--": "--", "ARGS]": "uname"},
            then="-a",
            at="<web1_host>",
        ),
        typed(
            "vnc NAME", r"^ssh was told: .*-t .*<web1_host> taskvisor vnc <web1> ", given={"NAME": "web1"}, at=LAPTOP
        ),
        typed(
            "vnc",
            "^Error: web1 is simulated: it has neither console nor screen$",
            then="web1",
            code=1,
            at="<web1_host>",
        ),
    ),
    typed(
        "console NAME",
        "^ssh was told: .*-t .*<web1_host> taskvisor console <web1>",
        given={"NAME": "web1"},
        way=Way.ON_A_TERMINAL,
        at=LAPTOP,
    ),
    typed(
        "console ID",
        "web1 is simulated: it has neither console nor screen",
        given={"ID": "<web1>"},
        way=Way.ON_A_TERMINAL,
        code=1,
        at="<web1_host>",
    ),
    typed("console", "needs a terminal; what the guest said is in: taskvisor console-log web1", then="web1", code=2),
    (
        typed("show NAME --history", r"^\S+ \S+ - building pending <build> build", given={"NAME": "web1"}),
        typed("why NAME", "^Host <web1_host>$", r"^Hosts \d looked at, \d fitted$", given={"NAME": "web1"}),
        typed("why ID", "^Host <web1_host>$", given={"ID": "<build>"}),
    ),
    typed("delete web1", "^web1 is deleted "),
    typed("image delete", "^debian-12 is deleted$", then="debian-12"),
)

DEMO: Chapter = (
    Between(what="two guests are written down in a file", do=_write_spec_file),
    typed("hosts", r"^kvm7 up \d+ \d+/256 ", r"^kvm9 up "),
    (
        typed(
            "launch .cache/guest/guest.qcow2 --name web1 -t c1-m128-d1 --ssh-key …",
            rf"^web1 is running on kvm\d, {ADDRESS} ",
            given=KEY,
            keeps={"demo": OPERATION},
        ),
        typed(
            "launch .cache/guest/guest.qcow2 --name web2 -t c1-m128-d1 --ssh-key …",
            rf"^web2 is running on kvm\d, {ADDRESS} ",
            given=KEY,
        ),
    ),
    (
        typed("list", rf"^web1 active {ADDRESS} kvm\d c1-m128-d1 ", "^web2 active "),
        typed("list -f value -c id -c host", rf"^{UUID} kvm\d$"),
        typed(
            "ops show dba755ff-a634-4ee7-a57c-64d363456695",
            "^What instance.build of web1 ",
            "^Phase succeeded$",
            r"^define_and_start do 1 kvm\d .* done$",
            given={"dba755ff-a634-4ee7-a57c-64d363456695": "<demo>"},
        ),
    ),
    typed("reboot web1", r"web1 shut_down done in", rf"^web1 was rebooted on kvm\d, {ADDRESS} "),
    Between(what="the guest says something", do=_let_it_speak),
    typed("console-log web1 -n 8", r"\A(line (1[3-9]|20)\n?){8}\Z", at="<web1_host>"),
    typed("snapshot web1 golden", r"^web1 was snapshotted on kvm\d: image golden, quiesced "),
    (
        typed("images", r"^golden .* 1\.0 GiB kvm\d .* ready [0-9a-f]{64}$"),
        typed("image show NAME", "^Name golden$", "^State ready$", "^Needs 1 GiB of disk", given={"NAME": "golden"}),
        typed("launch golden --name web3 -t c1-m128-d1", r"^web3 is running on kvm\d, "),
        typed("snapshot web1 web2 nightly-{name}", "^web1 .* image nightly-web1", "^web2 .* image nightly-web2"),
    ),
    typed("snapshot", "^web3 was snapshotted .* image spare", then="web3 spare --method cold"),
    typed("delete web1 web2 web3", "^web1 is deleted", "^web2 is deleted", "^web3 is deleted"),
    typed("launch golden --name web1 -f value -c addresses", rf"^{ADDRESS}$"),
    typed("delete NAME", "^web1 is deleted", given={"NAME": "web1"}),
    typed("launch --spec FILE", "^web1 is running", "^web2 is running", given={"FILE": "two.yaml"}),
    typed("delete", "^web1 is deleted", "^web2 is deleted", then="web1 web2"),
    typed("list", "^No instances. Make one with"),
    besides("image delete golden nightly-web1 nightly-web2 spare", "^golden is deleted$", "^spare is deleted$"),
)

IMAGES_AND_FLAVORS: Chapter = (
    typed(
        "image register debian-12 https://images.example/debian-12.qcow2 --sha256 … --min-disk 4"
        " --property hw_disk_bus=scsi",
        "^debian-12 is registered$",
        given={"…": "ab" * 32},
    ),
    typed("launch debian-12 --name web1 --flavor m1.small", rf"^web1 is running on kvm\d, {ADDRESS} "),
    (
        typed("image list", "^debian-12 .* any .* ready "),
        typed("image list -f json", r'^"name": "debian-12",$', f'^"sha256": "{"ab" * 32}",$'),
        typed("image show debian-12", "^Needs 4 GiB of disk", "^Property hw_disk_bus scsi$", "^Host any$"),
        typed(
            "flavor create gp1.large --vcpus 4 --memory 8192 --disk 40 --extra-spec hw:cpu_policy=shared",
            "^gp1.large is recorded$",
        ),
        typed("flavor create db --vcpus 8 --memory 65536 --private --project lab", "^db is recorded$"),
    ),
    typed("flavor access add db billing", "^db may be had by these projects$"),
    typed("flavor set db quota:cpu_shares=2048", "^db has these extra specs$"),
    (
        typed(
            "flavor list --project lab", "^db 8 65536 .* billing, lab quota:cpu_shares=2048$", "^gp1.large 4 8192 40 "
        ),
        typed("flavor list", "^m1.tiny 1 512 1 "),
        typed("flavor show", "^CPUs 8$", "^Extra spec quota:cpu_shares 2048$", then="db"),
        typed("flavor access list", "^billing$", "^lab$", then="db"),
        typed("launch debian-12 --name db1 --flavor db --project lab", rf"^db1 is running on kvm\d, {ADDRESS} "),
    ),
    typed("list --project lab", rf"^db1 active {ADDRESS} kvm\d db "),
    typed("flavor access add", "^db may be had by these projects$", then="db ops"),
    typed("flavor access remove", "^db may not be had by these projects$", then="db billing"),
    typed("flavor set", "^db has these extra specs$", then="db quota:cpu_period=20000"),
    typed("flavor unset", "^db has none of these extra specs$", then="db quota:cpu_shares"),
    typed("flavor create", "^small is recorded$", then="small --vcpus 1 --memory 128"),
    typed("flavor delete m1.xlarge", "^m1.xlarge is deleted$"),
    typed(
        "flavor delete", "^db is deleted$", "^gp1.large is deleted$", "^small is deleted$", then="db gp1.large small"
    ),
    typed("image delete debian-12", "^debian-12 is deleted$"),
    besides("delete web1 db1", "^web1 is deleted", "^db1 is deleted"),
)

AT_REST: Chapter = (
    typed("launch IMAGE --name web1", r"^web1 is running on kvm\d, ", given={"IMAGE": "simulated://debian"}),
    typed("delete --soft NAME", "^web1 is deleted softly; `taskvisor restore` brings it back", given={"NAME": "web1"}),
    typed("restore NAME", "^web1 is restored and running", given={"NAME": "web1"}),
    typed("stop", "^web1 is stopped", then="web1"),
    besides("stop web1", "^web1 is stopped already$", code=3),
    typed("start NAME", "^web1 is running", given={"NAME": "web1"}),
    typed("stop --shutdown-timeout 0", "^web1 is stopped", then="web1"),
    besides("start web1 --no-wait", rf"^{UUID}$", keeps={"start": rf"^({UUID})$"}),
    typed("ops follow ID", "^web1 is running", given={"ID": "<start>"}),
    typed("reboot --hard NAME", "^web1 was rebooted", given={"NAME": "web1"}),
    typed("ops list", r"^<start> start web1 succeeded - \S+ kvm\d$", r" soft_delete web1 succeeded "),
    typed("delete web1", "^web1 is deleted"),
)
