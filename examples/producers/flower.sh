#!/bin/sh
# Asks Taskvisor for something over HTTP, by Flower's API, with curl.
#
#   FLOWER_URL=http://flower:5555 FLOWER_AUTH=user:password ./flower.sh ask instance.build \
#     '{"name": "web1", "image": "/srv/images/debian.qcow2", "flavor": "m1.small"}' [ID]
#   ./flower.sh ask instance.delete '{"instance": "web1"}'
#   ./flower.sh send TASK ARGUMENTS [ID]     puts the request into the queue, and prints its id
#   ./flower.sh wait ID                      waits for its end
#   ./flower.sh show ID                      prints what is known of it now
#
# The same ID is the same request, however often it is sent: choose one, and send again when in doubt.
# Ends with 0 and the result as JSON, with 1 and the error, or with 2 and what is known when TIMEOUT_S (600) have passed.
# With EXPIRES_S a request that no worker has taken by then never is. See docs/producers.md.
set -eu

CURL=${CURL:-curl}
FLOWER_URL=${FLOWER_URL:-http://127.0.0.1:5555}
FLOWER_AUTH=${FLOWER_AUTH:-}
QUEUE=${QUEUE:-compute}
TIMEOUT_S=${TIMEOUT_S:-600}
EXPIRES_S=${EXPIRES_S:-}

main() {
  case ${1:-} in
    ask) id=$(send "$2" "$3" "${4:-$(new_id)}") && wait_for "$id" ;;
    send) send "$2" "$3" "${4:-$(new_id)}" ;;
    wait) wait_for "$2" ;;
    show) read_outcome "$2" && echo ;;
    *) say "usage: $0 ask|send TASK ARGUMENTS [ID], or wait|show ID" && exit 2 ;;
  esac
}

new_id() {
  cat /proc/sys/kernel/random/uuid
}

# send-task, not async-apply: Flower knows no task by itself, and asks for none here.
send() {
  options="\"kwargs\": $2, \"task_id\": \"$3\", \"queue\": \"$QUEUE\""
  [ -z "$EXPIRES_S" ] || options="$options, \"expires\": $EXPIRES_S"
  call -X POST -H 'Content-Type: application/json' -d "{$options}" "$FLOWER_URL/api/task/send-task/$1" >/dev/null
  echo "$3"
}

wait_for() {
  deadline=$(($(date +%s) + TIMEOUT_S))
  while outcome=$(read_outcome "$1"); do
    case $outcome in
      *'"state": "SUCCESS"'*) echo "$outcome" | result_of && exit 0 ;;
      *'"state": "FAILURE"'* | *'"state": "REVOKED"'*) say "$(echo "$outcome" | error_of)" && exit 1 ;;
    esac
    [ "$(date +%s)" -lt "$deadline" ] || break
    sleep 0.3
  done
  explain_silence "$1" "$outcome"
  exit 2
}

read_outcome() {
  call "$FLOWER_URL/api/task/result/$1"
}

# `{"task-id": …, "state": …, "result": …}`, and of a failure its traceback after it.
result_of() {
  sed 's/^.*"result": \(.*\)}$/\1/'
}

# An exception is shown as Python would write it: Refused('…') or Refused("…").
error_of() {
  sed 's/^.*"result": "\([A-Za-z]*\)(\(.*\))"\(, "traceback": .*\)\{0,1\}}$/\1: \2/; s/\\"/"/g' |
    sed "s/: ['\"]\\(.*\\)['\"]\$/: \\1/"
}

explain_silence() {
  case $2 in
    *'"state": "PENDING"'*)
      say "nothing is known of request $1: no worker has taken it (does a control node run? see \`taskvisor hosts\`), or its result has expired; send it again under the same id" ;;
    *) say "request $1 goes on: $2" ;;
  esac
}

# curl, with what Flower says when it refuses; a whole page says less than its number.
call() {
  # shellcheck disable=SC2086 # the words of a command
  answer=$($CURL -sS ${FLOWER_AUTH:+-u "$FLOWER_AUTH"} -w '\n%{http_code}' "$@") || fail "Flower did not answer at $FLOWER_URL"
  code=${answer##*
}
  answer=${answer%
*}
  case $code,$answer in
    200,*) printf '%s' "$answer" ;;
    401,*) fail "Flower wants a user and a password in FLOWER_AUTH${answer:+: $answer}" ;;
    *'<'*) fail "Flower answered $code" ;;
    *) fail "Flower answered $code: $answer" ;;
  esac
}

say() {
  echo "$*" >&2
}

fail() {
  say "$*"
  exit 2
}

main "$@"
