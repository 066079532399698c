#!/usr/bin/env bash
# A private libvirtd for the demo and the tests; the machine's own libvirt, if it has one, is not touched.
#
#   scripts/libvirtd.sh start   DIR [--cache CACHEDIR]
#   scripts/libvirtd.sh stop    DIR [--guests]
#   scripts/libvirtd.sh restart DIR [--cache CACHEDIR]
#   scripts/libvirtd.sh status  DIR
#
# start, restart and status print URI=, PID=, SOCKET= and KVM= lines to be read by machines; status returns 3 when no
# daemon runs. `stop` leaves guests running, as a stopped libvirtd does on a real host, and the next `start` adopts them;
# `stop --guests` ends them too, also when the daemon is already dead.
#
# How it is private: the daemon runs in a mount namespace of its own, in which the five directories that libvirt has
# compiled in (/run/libvirt, /etc/libvirt and so on) are directories of DIR. Clients outside reach it by the socket's
# path under DIR. All else, above all network and devices, is shared with the host.
set -euo pipefail

# shellcheck source=scripts/processes.sh
source "$(dirname "$(realpath "$0")")/processes.sh"

readonly START_LIMIT_S=60 TERM_LIMIT_S=15 KILL_LIMIT_S=5 LOCK_LIMIT_S=120
readonly SOCKET_PATH_LIMIT_BYTES=107 # sockaddr_un; longer paths cannot be connected to

# Where libvirt looks, and which directory of DIR it finds there. Also the mark by which our processes are known.
readonly RUN_MOUNT=/run/libvirt
readonly -A MOUNTS=(
  [run]=$RUN_MOUNT
  [lib]=/var/lib/libvirt
  [cache]=/var/cache/libvirt
  [log]=/var/log/libvirt
  [etc]=/etc/libvirt
)

die() {
  echo "libvirtd.sh: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}

main() {
  [ $# -ge 2 ] || usage
  local verb=$1 cache='' guests=''
  DIR=$(realpath -m -- "$2")
  shift 2
  while [ $# -gt 0 ]; do
    case $1 in
      --cache) cache=$(realpath -m -- "${2:?--cache needs a directory}") && shift 2 ;;
      --guests) guests=yes && shift ;;
      *) usage ;;
    esac
  done
  SOCKET=$DIR/run/libvirt-sock
  URI="qemu+unix:///system?socket=$SOCKET"
  PID_FILE=$DIR/libvirtd.pid
  case $verb in
    start | restart)
      check_can_start
      lock
      [ "$verb" = start ] || stop ''
      start "$cache"
      ;;
    stop)
      [ -d "$DIR" ] || return 0
      lock
      stop "$guests"
      ;;
    status) status ;;
    inside) run_daemon "$cache" ;; # only called by start, from within the new namespace
    *) usage ;;
  esac
}

# Two callers at once would start two daemons on one directory. The lock ends with this process: fd 9 is closed for all
# that outlives it.
lock() {
  mkdir -p "$DIR"
  exec 9>"$DIR/.lock"
  flock -w "$LOCK_LIMIT_S" 9 || die "$DIR is being started or stopped by another process for more than $LOCK_LIMIT_S s."
}

start() {
  local cache=$1 pid
  if pid=$(living_pid "$PID_FILE"); then
    report "$pid"
    return
  fi
  write_tree "${cache:-$DIR/cache}"
  rm -f "$SOCKET" "$PID_FILE" # of a daemon that was killed: nobody answers there
  "$(dirname "$(realpath "$0")")/forget-half-started.sh" "$DIR/run"
  # "slave": mounts made on the host later are seen inside, ours are never seen outside.
  setsid unshare --mount --propagation slave -- "$0" inside "$DIR" --cache "${cache:-$DIR/cache}" \
    </dev/null >"$DIR/log/libvirtd.out" 2>&1 9>&- &
  pid=$!
  wait_until_it_answers "$pid"
  report "$pid"
}

check_can_start() {
  local tool mount
  [ "$(id -u)" = 0 ] || die "must run as root: a mount namespace and tap devices need it."
  for tool in libvirtd virsh unshare flock; do
    command -v "$tool" >/dev/null || die "$tool is not installed; run scripts/setup.sh first."
  done
  [ ${#SOCKET} -le $SOCKET_PATH_LIMIT_BYTES ] ||
    die "the socket's path $SOCKET has more than $SOCKET_PATH_LIMIT_BYTES bytes; choose a shorter directory."
  for mount in "${MOUNTS[@]}"; do
    [[ $DIR/ != "$mount"/* ]] || die "$DIR lies under $mount, which libvirtd's namespace replaces; choose another directory."
  done
}

write_tree() {
  local cache=$1
  mkdir -p "$DIR"/{run,lib,cache,log,etc} "$cache"
  # Each DIR is a host of its own to libvirt, also when several share a machine; the identity must outlive restarts.
  [ -s "$DIR/etc/host-uuid" ] || cat /proc/sys/kernel/random/uuid >"$DIR/etc/host-uuid"
  cat >"$DIR/etc/libvirtd.conf" <<CONF
host_uuid = "$(cat "$DIR/etc/host-uuid")"
unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
CONF
  cat >"$DIR/etc/qemu.conf" <<'CONF'
# Disks belong to root and stay so: libvirt neither changes owners nor writes xattrs to remember them.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
# No virtlogd: qemu writes its console files itself.
stdio_handler = "file"
# No private /dev for guests, no cgroups: neither is needed, and a container or CI machine may refuse both.
namespaces = []
cgroup_controllers = []
CONF
}

# Runs inside the namespace, and becomes the daemon.
run_daemon() {
  local cache=$1 name
  for name in "${!MOUNTS[@]}"; do
    mkdir -p "${MOUNTS[$name]}"
    if [ "$name" = cache ]; then
      mount --bind "$cache" "${MOUNTS[$name]}"
    else
      mount --bind "$DIR/$name" "${MOUNTS[$name]}"
    fi
  done
  provide_default_user
  if [ "$(kvm_state)" = masked ]; then
    mask_kvm
  fi
  exec libvirtd --pid-file "$PID_FILE" --config /etc/libvirt/libvirtd.conf
}

# Debian's libvirtd looks up its compiled-in user before it reads that qemu.conf says root, and gives up without it. The
# user comes with the package libvirt-daemon-system, which a machine that only runs this daemon does not need.
provide_default_user() {
  if ! getent passwd libvirt-qemu >/dev/null; then
    (cat /etc/passwd && echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin') >"$DIR/etc/passwd"
    mount --bind "$DIR/etc/passwd" /etc/passwd
  fi
  if ! getent group libvirt-qemu >/dev/null; then
    (cat /etc/group && echo 'libvirt-qemu:x:64055:') >"$DIR/etc/group"
    mount --bind "$DIR/etc/group" /etc/group
  fi
}

# libvirt and qemu are made to see no KVM; the host's /dev is not changed. A read-only file, and not /dev/null, because
# libvirt throws its knowledge of qemu away, and spends two seconds to ask again, each time that it finds /dev/kvm
# accessible but qemu without KVM; root's access is only refused on a read-only file system.
mask_kvm() {
  : >"$DIR/etc/no-kvm"
  mount --bind "$DIR/etc/no-kvm" /dev/kvm
  mount -o remount,bind,ro /dev/kvm
}

# usable, masked (the device is there but cannot work) or absent. A device node alone proves nothing: in a virtual
# machine without nested virtualisation it may be there, open well, and fail or hang at the first use.
kvm_state() {
  if ! [ -e /dev/kvm ]; then
    echo absent
  elif ! (: <>/dev/kvm) 2>/dev/null; then
    echo masked
  elif [[ $(uname -m) == x86_64 ]] && ! grep -qwE 'vmx|svm' /proc/cpuinfo; then
    echo masked
  else
    echo usable
  fi
}

# libvirtd opens its socket early and answers when its drivers are up; the first start asks qemu for its capabilities.
wait_until_it_answers() {
  local pid=$1 deadline=$((SECONDS + START_LIMIT_S))
  until [ -S "$SOCKET" ] && timeout "$START_LIMIT_S" virsh -q -c "$URI" uri >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || fail_with_log "libvirtd ended while starting"
    if [ $SECONDS -ge $deadline ]; then
      kill -KILL "$pid" 2>/dev/null
      fail_with_log "libvirtd did not answer on $SOCKET within $START_LIMIT_S s and was killed"
    fi
    sleep 0.02
  done
}

fail_with_log() {
  echo "libvirtd.sh: $1; the last lines of its log:" >&2
  tail -n 15 "$DIR/log/libvirtd.out" "$DIR/log/libvirtd.log" >&2 2>/dev/null
  exit 1
}

stop() {
  local guests=$1 pid
  pid=$(living_pid "$PID_FILE") || pid=''
  if [ -n "$guests" ] && [ -n "$pid" ]; then
    destroy_guests
  fi
  if [ -n "$pid" ]; then
    end_process "the process" "$pid" "$TERM_LIMIT_S" "$KILL_LIMIT_S"
  fi
  if [ -n "$guests" ]; then
    for pid in $(namespace_pids); do # what the daemon did not know of, or left when it was killed
      end_process "the process" "$pid" "$TERM_LIMIT_S" "$KILL_LIMIT_S"
    done
  fi
  rm -f "$PID_FILE" "$SOCKET"
}

destroy_guests() {
  local uuid
  for uuid in $(timeout "$TERM_LIMIT_S" virsh -q -c "$URI" list --uuid); do
    timeout "$TERM_LIMIT_S" virsh -q -c "$URI" destroy "$uuid" >/dev/null 2>&1 || true # may have ended by itself
  done
}

# A process is ours when what it sees at /run/libvirt is our directory: a pid from a file may be somebody else's by now.
# Zombies have no root any more and count as gone.
is_ours() {
  [ "/proc/$1/root$RUN_MOUNT" -ef "$DIR/run" ]
}

namespace_pids() {
  local process
  for process in /proc/[0-9]*; do
    if is_ours "${process#/proc/}"; then
      echo "${process#/proc/}"
    fi
  done
}

status() {
  local pid
  if pid=$(living_pid "$PID_FILE"); then
    report "$pid"
  else
    echo "libvirtd is not running for $DIR." >&2
    return 3
  fi
}

report() {
  echo "URI=$URI"
  echo "PID=$1"
  echo "SOCKET=$SOCKET"
  echo "KVM=$(kvm_state)"
}

main "$@"
