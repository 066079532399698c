"""Chapters about what is watched: events, webhooks, measurements, periodic tasks, and all of it on one screen."""

from tests.system.typed.acts import Between, Chapter, Way, besides, typed
from tests.system.typed.hosts import CENTRAL

EVENTS: Chapter = (
    besides("launch simulated://debian --name web-1", "^web-1 is running"),
    (
        typed(
            "events --since 15m", r"instance.build web-1 on kvm\d succeeded ", "^Go on with: taskvisor events --since "
        ),
        typed(
            "events --since 1763769600000-0 --follow -f json",
            r'^{"cursor": "\d+-\d+", "kind": "operation", .*"flow": "instance.build", .*"phase": "succeeded"',
            way=Way.BY_CTRL_C,
        ),
        typed(
            "events --follow --instance web-1",
            r"instance.reboot web-1 on kvm\d succeeded",
            way=Way.BY_CTRL_C,
            keeps={"cursor": r"^Go on with: taskvisor events --since (\S+) --follow$"},
            meanwhile=besides("reboot web-1", "^web-1 was rebooted"),
        ),
    ),
    besides("delete web-1", "^web-1 is deleted"),
)

MEASURED: Chapter = (
    besides("launch simulated://debian --name web1 --host kvm7", "^web1 is running on kvm7"),
    (
        typed("monitor HOST", r"^cpu\.frequency 1000 ", "^memory.total 262144 ", given={"HOST": "kvm7"}, way=Way.AGAIN),
        typed("monitor NAME", r"^cpu\.time \d+ ", "^memory.actual 512 ", given={"NAME": "web1"}, way=Way.AGAIN),
        typed("usage", r" web1 default kvm7 active m1\.tiny 1 512 1$", way=Way.AGAIN),
        typed("ticks", r"^sweep kvm\d 2\.0 s \S+ ago .* done ", way=Way.AGAIN),
        typed("ticks --late", r"^image_cache kvm7 40 min 00 s - - - - never run$"),
        typed("ticks --task monitor", r"^monitor kvm7 \S+ \S+ .* done 1 instances$", way=Way.AGAIN),
    ),
    typed("monitor", r"^disk\.total \d+ ", then="kvm8", way=Way.AGAIN),
    typed("top", "^kvm7 up ", "^web1 active ", way=Way.ON_A_TERMINAL, keys="q"),
    typed("delete web1", "^web1 is deleted"),
)


TOLD = {"TASKVISOR_WEBHOOK_URLS": "<receiver>", "TASKVISOR_WEBHOOK_SECRET_FILE": "<secret_file>"}

WEBHOOKS: Chapter = (
    typed("webhooks status", "^Nothing was ever sent."),
    typed(
        "webhooks run",
        "webhooks: 1 URLs; stop with ctrl-C or SIGTERM",
        way=Way.STAYS,
        at=CENTRAL,
        name="webhooks",
        settings=TOLD,
    ),
    typed(
        "webhooks status", r"^\w+ http://127\.0\.0\.1:", way=Way.AGAIN, settings=TOLD, keeps={"hook": r"^(\w+) http://"}
    ),
    besides("launch simulated://debian --name web1", "^web1 is running"),
    typed("webhooks status", r"^<hook> http://\S+ \S+ [1-9]\d* 0 \d+ up to date$", way=Way.AGAIN, settings=TOLD),
    typed("webhooks log", "^Every event was delivered, or waits for its next try.$"),
    Between(what="the sender is stopped", do=lambda scene: scene.end("webhooks")),
    typed("webhooks forget KEY", "^Forgotten: <hook>$", given={"KEY": "<hook>"}),
    typed("delete web1", "^web1 is deleted"),
)
