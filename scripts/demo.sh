#!/usr/bin/env bash
# The main job, for real: two guests built at once, used over HTTP, one rebooted and snapshotted, a third built from the
# snapshot, all deleted, and then the proof that nothing is left. By real workers, libvirt, QEMU, TAPs, a bridge and DHCP.
#
# All of it happens in a network namespace of its own, so that this machine's network is as it was before, during and
# after. Only Flower runs outside, where a browser can see it.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
BIN=$ROOT/.venv/bin
GUEST=$ROOT/.cache/guest/guest.qcow2
NETNS=taskvisor-demo
HTTP_LIMIT_S=120
UP_LIMIT_S=60
FLOWER_PORT=${FLOWER_PORT:-5555}

DIR=$(mktemp -d /tmp/tvdemo.XXXXXX) # short: socket paths end at 107 bytes
chmod 755 "$DIR" # dnsmasq reads its hosts as nobody
UP_PID='' FLOWER_PID=''
START=$SECONDS

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() {
    printf '\033[36m$ taskvisor %s\033[0m\n' "$*"
    taskvisor "$@"
}
taskvisor() { inside "$BIN/taskvisor" "$@"; }
inside() { ip netns exec "$NETNS" "$@"; }
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

stop_pid() { # PID: TERM, then KILL after a bound
    [[ -n $1 ]] && kill -TERM "$1" 2>/dev/null || return 0
    for _ in $(seq 300); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}

stop_everything() {
    local status=$? left
    trap - EXIT INT TERM
    say "stopping everything"
    stop_pid "$FLOWER_PID"
    stop_pid "$UP_PID"
    "$ROOT/scripts/libvirtd.sh" stop "$DIR/v" --guests || true
    left=$(pgrep -f "$DIR/" || true)
    [[ -z $left ]] || { echo "demo: still running: $left" >&2 && status=1; }
    if ((status == 0)); then
        rm -rf "$DIR"
        ip netns delete "$NETNS"
        echo "stopped; $((SECONDS - START)) s in all"
    else
        tail -n 40 "$DIR/up.log" >&2 || true
        echo "demo: failed; logs are in $DIR" >&2
        ip netns delete "$NETNS" 2>/dev/null || true
    fi
    exit "$status"
}

start_everything() {
    ip netns delete "$NETNS" 2>/dev/null || true # left by a demo that was killed
    ip netns add "$NETNS"
    inside ip link set lo up
    local uri
    uri=$(inside "$ROOT/scripts/libvirtd.sh" start "$DIR/v" --cache "$ROOT/.cache/libvirt" | sed -n 's/^URI=//p')
    export TASKVISOR_LIBVIRT_URI=$uri TASKVISOR_STATE_DIR=$DIR/s TASKVISOR_HOST=demo-host
    unset TASKVISOR_REDIS_URL
    say "taskvisor up"
    (exec ip netns exec "$NETNS" "$BIN/taskvisor" up --no-flower) >"$DIR/up.log" 2>&1 & # exec: its pid is $!, not a shell's
    UP_PID=$!
    wait_for "$UP_LIMIT_S" "the host to come up" host_is_up
    export TASKVISOR_REDIS_URL="unix://$DIR/s/redis/redis.sock?db=0"
    "$BIN/celery" -A workers.app flower --address=127.0.0.1 --port="$FLOWER_PORT" >"$DIR/flower.log" 2>&1 &
    FLOWER_PID=$!
    echo "Flower: http://127.0.0.1:$FLOWER_PORT/tasks while this runs"
    run hosts
}

host_is_up() {
    kill -0 "$UP_PID" 2>/dev/null || fail "taskvisor up has ended; see $DIR/up.log"
    grep -qs 'is up' "$DIR/up.log"
}

wait_for() { # LIMIT_S WHAT COMMAND...
    local limit_s=$1 what=$2 deadline
    shift 2
    deadline=$((SECONDS + limit_s))
    until "$@"; do
        ((SECONDS < deadline)) || fail "waited $limit_s s for $what"
        sleep 0.2
    done
}

address_of() { taskvisor show "$1" -f json | "$BIN/python" -c 'import json,sys; print(json.load(sys.stdin)["addresses"][0])'; }
page_of() { inside curl -s --max-time 3 "http://$(address_of "$1")/"; }
answers() { page_of "$1" | grep -q '^hostname:'; }
has_booted() { page_of "$1" | grep -q "^boots: $2\$"; }

show_page() {
    echo "--- http://$(address_of "$1")/"
    page_of "$1" | grep -E '^(hostname|instance-id|address|boots|first-instance-id|ssh-keys):'
}

last_operation() { taskvisor ops list -f json | "$BIN/python" -c '
import json, sys
print(next(op["id"] for op in json.load(sys.stdin) if op["instance"] == sys.argv[1]))' "$1"; }

build_two_at_once() {
    say "two guests, built at once"
    local key='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDemoDemoDemoDemoDemoDemoDemoDemoDemoDemoDem demo'
    run launch "$GUEST" --name web1 -t c1-m128-d1 --ssh-key "$key" &
    local first=$!
    run launch "$GUEST" --name web2 -t c1-m128-d1 --ssh-key "$key" &
    local second=$!
    wait "$first"
    wait "$second"
    run list
    say "both answer HTTP over the bridge"
    local name
    for name in web1 web2; do
        wait_for "$HTTP_LIMIT_S" "$name to answer HTTP" answers "$name"
        show_page "$name"
    done
    say "every step is data"
    for name in web1 web2; do run ops show "$(last_operation "$name")"; done
}

use_and_snapshot() {
    say "a soft reboot: the guest is asked, shuts down, and boots again"
    run reboot web1
    wait_for "$HTTP_LIMIT_S" "web1 to boot a second time" has_booted web1 2
    show_page web1
    run console-log web1 -n 8
    say "a live snapshot, and a third guest from it"
    run snapshot web1 golden
    run images
    run launch golden --name web3 -t c1-m128-d1
    wait_for "$HTTP_LIMIT_S" "web3 to answer HTTP" answers web3
    show_page web3
    [[ $(page_of web3 | sed -n 's/^first-instance-id: //p') == $(page_of web1 | sed -n 's/^instance-id: //p') ]] ||
        fail "web3 does not carry what web1 had written to its disk"
}

verify_records() {
    say "what is recorded is what is on the host"
    run verify
}

delete_all() {
    say "delete all"
    run delete web1 web2 web3
    run list
    run ops list
}

prove_nothing_is_left() {
    say "nothing is left"
    local left=0
    check() { # WHAT OUTPUT: output must be empty
        if [[ -n $2 ]]; then
            printf '  LEFT  %s: %s\n' "$1" "$2"
            left=1
        else
            printf '  none  %s\n' "$1"
        fi
    }
    keys() { redis-cli -s "$DIR/s/redis/redis.sock" --raw keys "taskvisor:$1"; }
    check "domains" "$(virsh -q -c "$TASKVISOR_LIBVIRT_URI" list --all)"
    check "taps and bridges" "$(inside ip -o link show | grep -E ' (tap|brq)' || true)"
    check "DHCP servers" "$(inside ip -o addr | grep -v ' lo ' || true)"
    check "instance directories" "$(ls "$DIR/s/instances" 2>/dev/null || true)"
    check "instances, names" "$(keys 'instance:*')$(keys names)"
    check "leases" "$(keys 'lease:*')"
    check "claims" "$(keys 'claims:*')"
    check "addresses, MACs" "$(keys 'addresses:*')$(keys 'ports:*')$(keys macs)"
    check "unsettled operations" "$(keys 'ops:unsettled')$(keys 'ops:host:*')"
    ((left == 0)) || fail "something is left"
    echo "kept on purpose: the image cache, the snapshot 'golden', and the record of each operation"
}

[[ $EUID -eq 0 ]] || fail "must be run as root: it makes a network namespace, links and guests"
trap stop_everything EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
start_everything
build_two_at_once
use_and_snapshot
verify_records
delete_all
prove_nothing_is_left
verify_records
