# shellcheck shell=bash
# Ending a daemon by its pid file, for scripts that source this. They define `is_ours PID`: a pid from a file may be
# somebody else's by now.

# Returns when the process is gone: TERM, then KILL after a bound. NAME is for the message.
end_process() { # NAME PID TERM_LIMIT_S KILL_LIMIT_S
  local name=$1 pid=$2 term_limit_s=$3 kill_limit_s=$4
  kill -TERM "$pid" 2>/dev/null || return 0
  wait_until_gone "$pid" "$term_limit_s" && return
  kill -KILL "$pid" 2>/dev/null || return 0
  wait_until_gone "$pid" "$kill_limit_s" || {
    echo "$name $pid did not end within $kill_limit_s s of SIGKILL." >&2
    exit 1
  }
}

wait_until_gone() { # PID LIMIT_S
  local pid=$1 deadline=$((SECONDS + $2))
  while is_ours "$pid"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.02
  done
}

# The pid in the file, if it is that of a process of ours.
living_pid() { # PID_FILE
  local pid
  [ -s "$1" ] || return 1
  pid=$(<"$1")
  is_ours "$pid" || return 1
  echo "$pid"
}
