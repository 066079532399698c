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

# shellcheck source=scripts/processes.sh
source "$(dirname "$(realpath "$0")")/processes.sh"

readonly TERM_LIMIT_S=0 KILL_LIMIT_S=10 # nothing has run in it that could be shut down in good order

main() {
  local run_dir=${1:-/run/libvirt} state pid_file pid
  for state in "$run_dir"/qemu/*.xml; do
    if is_half_started "$state"; then
      NAME=$(basename "$state" .xml)
      pid_file=$run_dir/qemu/$NAME.pid
      if pid=$(living_pid "$pid_file"); then
        end_process "the QEMU of domain $NAME," "$pid" "$TERM_LIMIT_S" "$KILL_LIMIT_S"
      fi
      rm -f "$state" "$pid_file"
      echo "domain $NAME was half started by a libvirtd that died; it is off now." >&2
    fi
  done
}

is_half_started() { # STATE_FILE
  [ -f "$1" ] && grep -qE "^<domstatus state='paused' reason='starting up' pid='0'>" "$1"
}

# A pid from a file may be somebody else's by now: QEMU bears the domain's name in its arguments.
is_ours() { # PID
  grep -qzF "guest=$NAME," "/proc/$1/cmdline" 2>/dev/null
}

main "$@"
