#!/usr/bin/env bash
# Asks a gateway what its callers ask, once: is it alive and ready, does it answer, plain and
# streamed, and is what was used in the ledger.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: smoke.sh --url URL --key-file FILE --model MODEL [--admin-key-file FILE] [--timeout SECONDS]

  smoke.sh --url https://gateway.internal --key-file canary.key --model gpt-4o-mini \
      --admin-key-file admin.key

  --url URL              the gateway
  --key-file FILE        holds the key of a caller kept for this; keys are never arguments, as
                         command lines are seen by all
  --model MODEL          a model that the key may ask for; two short answers are paid for
  --admin-key-file FILE  holds an admin's key, to look the usage up by the management API
  --timeout SECONDS      of each request, and of the wait for the usage (default: 30)

exit codes: 0 all of it is well, 1 something is not, 2 wrong arguments
HELP
}

wrong() {
  echo "smoke.sh: $1 (--help shows how)" >&2
  exit 2
}

url='' key_file='' admin_key_file='' model='' timeout=30
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --url | --key-file | --admin-key-file | --model | --timeout)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      name=${1#--}
      printf -v "${name//-/_}" '%s' "$2"
      shift 2
      ;;
    *) wrong "unknown argument $1" ;;
  esac
done
[[ $url =~ ^https?://[^[:space:]\"@]+$ ]] || wrong "--url must be an http:// or https:// address"
[[ $model =~ ^[A-Za-z0-9._:/@-]+$ ]] || wrong "--model must be a model's name"
[[ $timeout =~ ^[1-9][0-9]{0,3}$ ]] || wrong "--timeout must be whole seconds"
[ -n "$key_file" ] || wrong "--key-file is missing"
url=${url%/}

key_of() { # the text of a key's file, if it can be sent at all
  local key
  key=$(cat -- "$1") || wrong "the key's file can't be read: $1"
  [[ $key =~ ^[!-~]+$ && $key != *[\"\\]* ]] || wrong "the file holds no key: $1"
  printf '%s' "$key"
}
key=$(key_of "$key_file")
admin_key=''
if [ -n "$admin_key_file" ]; then admin_key=$(key_of "$admin_key_file"); fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
id="smoke-$(date +%s)-$$"

failed() {
  echo "FAILED  $1: $2" >&2
  exit 1
}

ask() { # ask WHAT KEY PATH [curl options]: the body goes to $folder/body, and must come with a 200
  local what=$1 secret=$2 path=$3 status
  shift 3
  # curl reads the key from its standard input: it is in no argument and in no file.
  status=$(
    { if [ -n "$secret" ]; then printf 'header = "Authorization: Bearer %s"\n' "$secret"; fi; } |
      curl --config - --silent --show-error --connect-timeout 5 --max-time "$timeout" \
        --output "$folder/body" --write-out '%{http_code}' "$@" "$url$path" 2>"$folder/error"
  ) || failed "$what" "$(cat "$folder/error")"
  [ "$status" = 200 ] || failed "$what" "status $status: $(head -c 300 "$folder/body")"
}

holds() { # holds WHAT TEXT: the last answer, without its spaces, has this text
  tr -d ' \n' <"$folder/body" | grep -F -- "$2" >/dev/null || failed "$1" "no $2 in the answer"
}

complete() { # complete WHAT ID STREAM
  ask "$1" "$key" /v1/chat/completions --header "X-Request-Id: $2" \
    --header 'Content-Type: application/json' --no-buffer \
    --data "{\"model\": \"$model\", \"stream\": $3, \"max_tokens\": 16,
             \"messages\": [{\"role\": \"user\", \"content\": \"Say ok.\"}]}"
}

ask health '' /health
echo "ok      health"
ask readiness '' /health/ready
echo "ok      readiness"
ask models "$key" /v1/models
holds models "\"id\":\"$model\""
echo "ok      models: $model is among them"
complete completion "$id-plain" false
holds completion '"choices":[{'
holds completion '"content":'
echo "ok      a chat completion"
complete stream "$id-stream" true
holds stream '"delta":{'
holds stream 'data:[DONE]'
echo "ok      a chat completion, streamed to its end"

if [ -z "$admin_key" ]; then
  echo "skipped usage: no --admin-key-file was given"
  exit 0
fi
for each in plain stream; do
  end=$((SECONDS + timeout))
  while :; do
    ask usage "$admin_key" "/v0/management/usage?request_id=$id-$each"
    if tr -d ' \n' <"$folder/body" | grep -F "\"requestId\":\"$id-$each\"" >/dev/null; then break; fi
    # Rows are written in batches, beside the requests.
    [ $SECONDS -lt $end ] || failed usage "request $id-$each is not in the ledger"
    sleep 0.5
  done
done
echo "ok      usage: both are in the ledger"
