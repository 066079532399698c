"""Chapters about what a fleet has: networks, addresses, volumes, places."""

from tests.system.typed.acts import Chapter, besides, typed
from tests.system.typed.guests import ADDRESS, REGISTER_DEBIAN, UUID

NETWORKS: Chapter = (
    typed("network create blue --kind vxlan --segment 7 --cidr 10.7.0.0/24 --cidr6 fd00:7::/64", "^blue is recorded$"),
    typed(
        "group create web --rule in,protocol=tcp,ports=80-90 --rule in,protocol=icmp,icmp=8 --rule in,group=web --rule out",
        "^web is recorded$",
    ),
    (
        typed("network list", r"^blue vxlan 10\.7\.0\.0/24 10\.7\.0\.1 1450 yes yes fd00:7::/64 7$"),
        typed("networks", "^blue vxlan "),
        typed("network show", "^Name blue$", "^Segment 7$", "^CIDR v6 fd00:7::/64, slaac$", then="blue"),
        typed("group show", "^0 in,.*tcp", "^3 out", then="web"),
        typed("launch", r"^web1 is running on kvm\d, ", then="simulated://debian --name web1"),
    ),
    besides("interface list web1", rf"^0 default \S+ {ADDRESS} ", keeps={"address": rf"^0 default \S+ ({ADDRESS}) "}),
    typed(
        "interface attach NAME NETWORK[,address=…]",
        r"^web1 has the NIC on kvm\d ",
        given={"NAME": "web1", "NETWORK[,address=…]": "blue,address=10.7.0.2"},
    ),
    typed(
        "group set web1 web default [--port 10.7.0.2]",
        "^web1 is in these groups",
        given={"[--port": "--port", "10.7.0.2]": "10.7.0.2"},
    ),
    typed("group update web --rule out", "^web has these rules$"),
    typed("group update", "^default has these rules$", then="default --rule out"),
    (
        typed("group list", "^default 1 ", rf"^web 1 {UUID}$"),
        typed("interface list", r"^1 blue 52:54:\S+ 10\.7\.0\.2 fd00:7::\S+ .* web1$", then="web1"),
        typed("floating create 192.0.2.7", "^192.0.2.7 is registered$"),
        typed("floating create", "^192.0.2.8 is registered$", then="192.0.2.8"),
    ),
    typed("floating bind", "^192.0.2.7 is bound", then="192.0.2.7 web1 --port <address>"),
    typed("floating list", "^192.0.2.7 web1 <address>$", "^192.0.2.8 - -$"),
    typed("floating release", "^192.0.2.7 is free$", then="192.0.2.7"),
    typed("floating delete", "^192.0.2.7 is deleted$", "^192.0.2.8 is deleted$", then="192.0.2.7 192.0.2.8"),
    typed("interface detach", r"^web1 has let go of the NIC on kvm\d ", then="web1 10.7.0.2"),
    typed("network delete", "^blue is deleted$", then="blue"),
    typed("group delete", "^web is deleted$", then="web"),
    typed("delete web1", "^web1 is deleted"),
)

VOLUMES: Chapter = (
    besides("launch simulated://debian --name web1", "^web1 is running"),
    typed("volume attach web1 SOURCE", "^web1 has the volume", given={"SOURCE": "file:///srv/volumes/db.qcow2"}),
    typed("volume list", r"^vdb vol-\w{16} raw alone file:///srv/volumes/db.qcow2 web1$", then="web1"),
    typed("volume detach", "^web1 has let go of the volume", then="web1 file:///srv/volumes/db.qcow2"),
    besides("volume list web1", "^web1 has no volumes.$"),
    typed("delete web1", "^web1 is deleted"),
)

PLACEMENT: Chapter = (
    typed(REGISTER_DEBIAN, "^debian-12 is registered$"),
    typed("host label kvm7 gpu=a100 rack=7 old-", "^kvm7 bears these labels$"),
    typed("aggregate create east --zone east --host kvm7 --host kvm8", "^east is recorded$"),
    typed("aggregate set east ssd=true filter_tenant_id=blue,red", "^east has these properties$"),
    typed("aggregate add-host east kvm9", "^east has that host$"),
    typed(
        "launch debian-12 -n web --project blue --zone east --require gpu=a100 --forbid slow",
        rf"^web is running on kvm7, {ADDRESS} ",
    ),
    besides(
        "launch debian-12 -n lost --zone east",
        "^Error: launch lost was refused .NoCapacity.$",
        "kvm8: it is kept for projects blue, red, and the guest is project default's",
        code=5,
        keeps={"refused": rf"taskvisor why ({UUID}),"},
    ),
    besides("why <refused>", "^kvm9 .* it is kept for projects blue, red"),
    (
        typed("aggregate list", "^east east 3 filter_tenant_id=blue,red, ssd=true$"),
        typed("aggregate show", "^Zone east$", "^Hosts kvm7, kvm8, kvm9$", then="east"),
    ),
    typed("aggregate remove-host", "^east does not have that host$", then="east kvm9"),
    besides("aggregate remove-host east kvm8", "^east does not have that host$"),
    besides("aggregate remove-host east kvm7", "^east does not have that host$"),
    typed("aggregate delete", "^east is deleted$", then="east"),
    besides("host label kvm7 gpu- rack-", "^kvm7 bears these labels$"),
    typed("server-group create db --policy anti-affinity", "^db is recorded$"),
    typed("launch debian-12 -n db1 --server-group db", r"^db1 is running on kvm\d, "),
    (
        typed("server-group list", rf"^db anti-affinity 1 {UUID}$"),
        typed("server-group show", r"^db1 \S*.*kvm\d", then="db"),
        typed(
            "launch IMAGE -n web --count 5",
            *(rf"^web-{number} is running on kvm\d, " for number in range(1, 6)),
            given={"IMAGE": "debian-12"},
        ),
        typed(
            "launch … --dry-run",
            r"^Hosts 3 looked at, 3 fitted$",
            "^vda root ",
            "[<]title>dry</title>",
            "^Nothing was touched.",
            given={"…": "debian-12"},
            then="--name dry",
        ),
    ),
    besides("delete web db1 web-1 web-2 web-3 web-4 web-5", "^web is deleted", "^db1 is deleted", "^web-5 is deleted"),
    typed("server-group delete", "^db is deleted$", then="db"),
    typed("image delete debian-12", "^debian-12 is deleted$"),
)
