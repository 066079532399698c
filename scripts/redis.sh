#!/usr/bin/env bash
# A private redis-server on a unix socket under DIR, for the demo and the tests. It listens on no port.
#
#   scripts/redis.sh start DIR [--appendonly yes|no]      keeps every write in DIR by default, fsync once a second
#   scripts/redis.sh stop  DIR
#   scripts/redis.sh status DIR
#
# start and status print URL= (Celery's and kombu's form), REDIS_URL= (redis-py's form), SOCKET= and PID=; status returns
# 3 when no server runs. Data survive `stop` and `start`; a server that was killed is started again over its own files.
set -euo pipefail

# shellcheck source=scripts/processes.sh
source "$(dirname "$(realpath "$0")")/processes.sh"

readonly START_LIMIT_S=30 TERM_LIMIT_S=15 KILL_LIMIT_S=5 LOCK_LIMIT_S=60
readonly SOCKET_PATH_LIMIT_BYTES=107 # sockaddr_un; longer paths cannot be connected to

die() {
  echo "redis.sh: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}

main() {
  [ $# -ge 2 ] || usage
  local verb=$1 appendonly=yes
  DIR=$(realpath -m -- "$2")
  shift 2
  while [ $# -gt 0 ]; do
    case $1 in
      --appendonly)
        case ${2:-} in
          yes | no) appendonly=$2 && shift 2 ;;
          *) usage ;;
        esac
        ;;
      *) usage ;;
    esac
  done
  SOCKET=$DIR/redis.sock
  PID_FILE=$DIR/redis.pid
  case $verb in
    start)
      lock
      start "$appendonly"
      ;;
    stop)
      [ -d "$DIR" ] || return 0
      lock
      stop
      ;;
    status) status ;;
    *) usage ;;
  esac
}

# Two callers at once would start two servers over the same files. The server does not inherit the lock (9>&-).
lock() {
  mkdir -p "$DIR"
  exec 9>"$DIR/.redis.lock"
  flock -w "$LOCK_LIMIT_S" 9 || die "$DIR is being started or stopped by another process for more than $LOCK_LIMIT_S s."
}

start() {
  local appendonly=$1 pid
  command -v redis-server >/dev/null || die "redis-server is not installed; run scripts/setup.sh first."
  [ ${#SOCKET} -le $SOCKET_PATH_LIMIT_BYTES ] ||
    die "the socket's path $SOCKET has more than $SOCKET_PATH_LIMIT_BYTES bytes; choose a shorter directory."
  if pid=$(living_pid "$PID_FILE"); then
    report "$pid"
    return
  fi
  write_config "$appendonly"
  rm -f "$PID_FILE"
  setsid redis-server "$DIR/redis.conf" </dev/null >>"$DIR/redis.log" 2>&1 9>&- &
  pid=$!
  wait_until_it_answers "$pid"
  report "$pid"
}

write_config() {
  local appendonly=$1
  cat >"$DIR/redis.conf" <<CONF
port 0
unixsocket $SOCKET
unixsocketperm 700
dir $DIR
pidfile $PID_FILE
appendonly $appendonly
appendfsync everysec
save ""
# Taskvisor's records are no cache: a full Redis must refuse writes, never forget.
maxmemory-policy noeviction
CONF
}

# While it reads its files it answers PING with an error; only PONG counts.
wait_until_it_answers() {
  local pid=$1 deadline=$((SECONDS + START_LIMIT_S))
  until [ -s "$PID_FILE" ] && [ "$(timeout 2 redis-cli -s "$SOCKET" ping 2>/dev/null)" = PONG ]; do
    kill -0 "$pid" 2>/dev/null || fail_with_log "redis-server ended while starting"
    if [ $SECONDS -ge $deadline ]; then
      kill -KILL "$pid" 2>/dev/null
      fail_with_log "redis-server did not answer on $SOCKET within $START_LIMIT_S s and was killed"
    fi
    sleep 0.02
  done
}

fail_with_log() {
  echo "redis.sh: $1; the last lines of its log:" >&2
  tail -n 15 "$DIR/redis.log" >&2
  exit 1
}

# TERM, upon which redis-server writes what it has; then KILL after a bound.
stop() {
  local pid
  if pid=$(living_pid "$PID_FILE"); then
    end_process redis-server "$pid" "$TERM_LIMIT_S" "$KILL_LIMIT_S"
  fi
  rm -f "$PID_FILE" "$SOCKET"
}

# A pid from a file may be somebody else's by now; redis-server works in its `dir`, which is ours alone.
is_ours() {
  [ "$(cat "/proc/$1/comm" 2>/dev/null)" = redis-server ] && [ "/proc/$1/cwd" -ef "$DIR" ]
}

status() {
  local pid
  if pid=$(living_pid "$PID_FILE"); then
    report "$pid"
  else
    echo "redis-server is not running for $DIR." >&2
    return 3
  fi
}

report() {
  echo "URL=redis+socket://$SOCKET?virtual_host=0"
  echo "REDIS_URL=unix://$SOCKET?db=0"
  echo "SOCKET=$SOCKET"
  echo "PID=$1"
}

main "$@"
