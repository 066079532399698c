#!/usr/bin/env bash
# Frees domains that libvirtd was killed over in the milliseconds in which it started them. To be run before libvirtd is.
#
#   scripts/forget-half-started.sh [RUN_DIR]        RUN_DIR is /run/libvirt unless told otherwise
#
# For about 4 ms of each start libvirt's state of the domain on disk says "active, being started, process 0". A libvirtd
# that is killed in them leaves that behind, and the next one believes it: it has no process to reconnect to and none to
# end, and the start that nobody makes any more holds the domain for ever. Each call on it fails after 30 s with "cannot
# acquire state change lock", and restarting libvirtd changes nothing (seen with libvirt 9.0). So the QEMU, if one was
# started, is ended (its guest has not run yet), and the state is removed: the next libvirtd finds the domain off.
#
# As a part of a host's libvirtd: systemctl edit libvirtd, and
#   [Service]
#   ExecStartPre=-/path/to/forget-half-started.sh
set -euo pipefail

readonly END_LIMIT_S=10

main() {
  local run_dir=${1:-/run/libvirt} state name
  for state in "$run_dir"/qemu/*.xml; do
    if is_half_started "$state"; then
      name=$(basename "$state" .xml)
      end_qemu "$name" "$run_dir/qemu/$name.pid"
      rm -f "$state" "$run_dir/qemu/$name.pid"
      echo "domain $name was half started by a libvirtd that died; it is off now." >&2
    fi
  done
}

is_half_started() { # STATE_FILE
  [ -f "$1" ] && grep -qE "^<domstatus state='paused' reason='starting up' pid='0'>" "$1"
}

# A pid from a file may be somebody else's by now: QEMU bears the domain's name in its arguments.
end_qemu() { # NAME PID_FILE
  local pid deadline=$((SECONDS + END_LIMIT_S))
  [ -s "$2" ] || return 0
  pid=$(<"$2")
  while tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "guest=$1,"; do
    kill -KILL "$pid" 2>/dev/null || return 0
    [ $SECONDS -lt $deadline ] || {
      echo "forget-half-started.sh: QEMU $pid of domain $1 did not end within $END_LIMIT_S s of SIGKILL; left as it is." >&2
      exit 1
    }
    sleep 0.02
  done
}

main "$@"
