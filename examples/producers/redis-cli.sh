#!/bin/sh
# Asks Taskvisor for something with nothing but redis-cli and coreutils: what any language without Celery would do.
#
#   REDIS_CLI="redis-cli -u redis://redis:6379/0" ./redis-cli.sh ask instance.build \
#     '{"name": "web1", "image": "/srv/images/debian.qcow2", "flavor": "m1.small"}' [ID]
#   ./redis-cli.sh ask instance.delete '{"instance": "web1"}'
#   ./redis-cli.sh send TASK ARGUMENTS [ID]     puts the request into the queue, and prints its id
#   ./redis-cli.sh wait ID                      waits for its end
#   ./redis-cli.sh show ID                      prints what is known of it now
#
# The same ID is the same request, however often it is sent: choose one, and send again when in doubt.
# Ends with 0 and the result as JSON, with 1 and the error, or with 2 and what is known when TIMEOUT_S (600) have passed.
# With EXPIRES_S a request that no worker has taken by then never is. See docs/producers.md.
set -eu

REDIS_CLI=${REDIS_CLI:-redis-cli}
QUEUE=${QUEUE:-compute}
TIMEOUT_S=${TIMEOUT_S:-600}
EXPIRES_S=${EXPIRES_S:-}

main() {
  case ${1:-} in
    ask) id=$(send "$2" "$3" "${4:-$(new_id)}") && wait_for "$id" ;;
    send) send "$2" "$3" "${4:-$(new_id)}" ;;
    wait) wait_for "$2" ;;
    show) show "$2" ;;
    *) say "usage: $0 ask|send TASK ARGUMENTS [ID], or wait|show ID" && exit 2 ;;
  esac
}

# redis-cli tells of what Redis refuses on the other stream, and by its exit code, only with -e.
redis() {
  # shellcheck disable=SC2086 # the words of a command
  $REDIS_CLI -e "$@"
}

new_id() {
  cat /proc/sys/kernel/random/uuid
}

# TASK, ARGUMENTS (a JSON object) and ID: a message of Celery's protocol 2, as kombu keeps it in Redis.
send() {
  body=$(printf '[[], %s, {}]' "$2" | base64 -w 0)
  headers="\"id\": \"$3\", \"task\": \"$1\""
  if [ -n "$EXPIRES_S" ]; then
    headers="$headers, \"expires\": \"$(date -u -d "+$EXPIRES_S seconds" +%Y-%m-%dT%H:%M:%S+00:00)\""
  fi
  printf '{"body": "%s", "content-type": "application/json", "content-encoding": "utf-8", "headers": {%s},
    "properties": {"body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "%s"}}}' \
    "$body" "$headers" "$QUEUE" | redis -x LPUSH "$QUEUE" >/dev/null || fail "Redis did not take the request"
  echo "$3"
}

wait_for() {
  deadline=$(($(date +%s) + TIMEOUT_S))
  while outcome=$(read_outcome "$1"); do
    case $outcome in
      '{"status": "SUCCESS", '*) echo "$outcome" | result_of && exit 0 ;;
      '{"status": "FAILURE", '* | '{"status": "REVOKED", '*) say "$(echo "$outcome" | error_of)" && exit 1 ;;
    esac
    [ "$(date +%s)" -lt "$deadline" ] || break
    sleep 0.3
  done
  explain_silence "$1" "$outcome"
  exit 2
}

show() {
  outcome=$(read_outcome "$1")
  [ -n "$outcome" ] || { explain_silence "$1" "" && exit 2; }
  echo "$outcome"
}

read_outcome() {
  redis GET "celery-task-meta-$1" || fail "Redis did not tell the outcome"
}

# What stands between `"result": ` and `, "traceback": `, which Celery writes after it.
result_of() {
  sed 's/^{"status": "[A-Z]*", "result": \(.*\), "traceback": .*$/\1/'
}

error_of() {
  sed 's/^.*"exc_type": "\([A-Za-z]*\)", "exc_message": \["\(.*\)"\], "exc_module".*$/\1: \2/; s/\\"/"/g'
}

explain_silence() {
  waiting=$(redis LLEN "$QUEUE")
  if [ -n "$2" ]; then
    say "request $1 goes on: $2"
  elif [ "$waiting" -gt 0 ]; then
    say "no worker has taken request $1: $waiting wait in the queue $QUEUE; does a control node run? see \`taskvisor hosts\`"
  else
    say "nothing is known of request $1: no worker has answered yet, or its result has expired; send it again under the same id"
  fi
}

say() {
  echo "$*" >&2
}

fail() {
  say "$*"
  exit 2
}

main "$@"
