#!/usr/bin/env bash
# Takes the gateway of a cluster back to its last good revision, and sees that it is well there.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: rollback.sh [options] --url URL --key-file FILE --model MODEL [--admin-key-file FILE]
       rollback.sh [options] --mark-good

  rollback.sh --namespace rad-gateway --url https://gateway.internal --key-file canary.key \
      --model gpt-4o-mini                       go back, wait, and try it with smoke.sh
  rollback.sh --namespace rad-gateway --dry-run say what would be done
  rollback.sh --namespace rad-gateway --mark-good
                                                after a good release: remember its revision

  --namespace NAME     (default: that of the context)
  --name NAME          of the Deployment or Rollout (default: rad-gateway)
  --kind KIND          deployment or rollout (default: deployment); a rollout needs the plugin
                       kubectl-argo-rollouts
  --to-revision N      this one, whatever is good
  --timeout SECONDS    for the rollout to end (default: 300)
  --dry-run            change nothing
  --mark-good          label the revision that runs as good, and change nothing else
  --url, --key-file, --model, --admin-key-file    as smoke.sh takes them

The last good revision is: of a rollout with a canary under way, its stable version; else the
newest one before the current that --mark-good has marked; else the one before the current, and
then it says that nobody has marked it. Alerts are not silenced.

exit codes: 0 back and well, 1 it is not, 2 wrong arguments, or there is nothing to go back to
HELP
}

wrong() {
  echo "rollback.sh: $1" >&2
  exit 2
}

namespace='' name=rad-gateway kind=deployment to_revision='' timeout=300 dry_run='' mark_good=''
url='' key_file='' admin_key_file='' model=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --dry-run) dry_run=yes; shift ;;
    --mark-good) mark_good=yes; shift ;;
    --namespace | --name | --kind | --to-revision | --timeout | --url | --key-file | --model | \
      --admin-key-file)
      [ $# -ge 2 ] || wrong "$1 needs a value (--help shows how)"
      option=${1#--}
      printf -v "${option//-/_}" '%s' "$2"
      shift 2
      ;;
    *) wrong "unknown argument $1 (--help shows how)" ;;
  esac
done
case $kind in deployment | rollout) ;; *) wrong "--kind must be deployment or rollout" ;; esac
[[ $name =~ ^[a-z0-9.-]+$ ]] || wrong "--name must be a name"
[[ $to_revision =~ ^([1-9][0-9]*)?$ ]] || wrong "--to-revision must be a number"
[[ $timeout =~ ^[1-9][0-9]{0,4}$ ]] || wrong "--timeout must be whole seconds"
if [ -z "$dry_run$mark_good" ]; then
  # Found out now, and not when it has been rolled back.
  if [ -z "$url" ] || [ -z "$key_file" ] || [ -z "$model" ]; then
    wrong "--url, --key-file and --model are needed to see that it is well (--help shows how)"
  fi
  [ -r "$key_file" ] || wrong "the key's file can't be read: $key_file"
fi
command -v kubectl >/dev/null || wrong "kubectl is not on the PATH"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
where=()
if [ -n "$namespace" ]; then where=(--namespace "$namespace"); fi

if [ "$kind" = rollout ]; then
  resource=rollouts.argoproj.io/$name
  annotation='rollout\.argoproj\.io/revision'
else
  resource=deployment/$name
  annotation='deployment\.kubernetes\.io/revision'
fi
mark=rad-gateway/verified

# Each revision that is kept: its number, whether it is marked, its ReplicaSet, its image.
revisions=$(
  kubectl get replicasets "${where[@]}" --selector "app.kubernetes.io/name=$name" --output \
    jsonpath="{range .items[*]}{.metadata.annotations.$annotation}{'|'}{.metadata.labels.$mark}{'|'}{.metadata.name}{'|'}{.spec.template.spec.containers[0].image}{'\n'}{end}"
) || wrong "the revisions can't be read: see what kubectl says above"
revisions=$(grep -E '^[0-9]+\|' <<<"$revisions" | sort -t '|' -k 1,1nr) ||
  wrong "$resource has no revisions; is it there, and is --kind right?"

field() { # field NUMBER: of the lines on standard input
  cut -d '|' -f "$1"
}
of_revision() { grep -E "^$1\|" <<<"$revisions" || true; }

current=$(head -n 1 <<<"$revisions" | field 1)
stable=''
if [ "$kind" = rollout ]; then
  hash=$(kubectl get "$resource" "${where[@]}" --output jsonpath='{.status.stableRS}') ||
    wrong "the rollout can't be read: see what kubectl says above"
  if [ -n "$hash" ]; then
    stable=$(awk -F '|' -v set="$name-$hash" '$3 == set {print $1; exit}' <<<"$revisions")
  fi
fi

if [ -n "$mark_good" ]; then
  if [ "$kind" = rollout ] && [ "$stable" != "$current" ]; then
    wrong "revision $current is a canary; mark it when it is stable"
  fi
  replicaset=$(of_revision "$current" | field 3)
  kubectl label "${where[@]}" --overwrite "replicaset/$replicaset" "$mark=true"
  echo "revision $current of $resource is marked as good"
  exit 0
fi

if [ -n "$to_revision" ]; then
  target=$to_revision because="as you said"
elif [ -n "$stable" ] && [ "$stable" != "$current" ]; then
  target=$stable because="the stable version beside the canary"
else
  target=$(awk -F '|' -v now="$current" '$1 != now && $2 == "true" {print $1; exit}' <<<"$revisions")
  because="the newest that is marked as good"
  if [ -z "$target" ]; then
    target=$(awk -F '|' -v now="$current" '$1 != now {print $1; exit}' <<<"$revisions")
    because="the one before; NOBODY HAS MARKED IT AS GOOD"
  fi
fi
[ -n "$target" ] || wrong "$resource has no revision but $current: nothing to go back to"
[ "$target" != "$current" ] || wrong "revision $target is the current one"
[ -n "$(of_revision "$target")" ] || wrong "$resource has no revision $target"
from=$(of_revision "$current" | field 4)
to=$(of_revision "$target" | field 4)
echo "from revision $current ($from)"
echo "to   revision $target ($to): $because"
if [ -n "$dry_run" ]; then exit 0; fi

failed() {
  echo "rollback.sh: $1" >&2
  cat >&2 <<TELL

tell #incidents now:
  The rollback of $name from $from to $to did not come out well: $1. Somebody has to look.
TELL
  exit 1
}

if [ "$kind" = rollout ]; then
  # A plugin takes no option before its own name.
  if [ "$stable" != "$current" ]; then
    # Takes the traffic away from the canary before anything else happens.
    kubectl argo rollouts abort "$name" "${where[@]}" || failed "the canary can't be aborted"
  fi
  kubectl argo rollouts undo "$name" "${where[@]}" --to-revision="$target" ||
    failed "undo is refused"
  kubectl argo rollouts status "$name" "${where[@]}" --timeout "${timeout}s" ||
    failed "it has not ended within $timeout s"
else
  kubectl rollout undo "$resource" "${where[@]}" --to-revision="$target" || failed "undo is refused"
  kubectl rollout status "$resource" "${where[@]}" --timeout="${timeout}s" ||
    failed "it has not ended within $timeout s"
fi

smoke=(--url "$url" --key-file "$key_file" --model "$model")
if [ -n "$admin_key_file" ]; then smoke+=(--admin-key-file "$admin_key_file"); fi
"$here/smoke.sh" "${smoke[@]}" || failed "it is back, and the smoke test fails"

cat <<TELL

rolled back, and well. Now tell them:
  #incidents: $name was rolled back from $from to $to at $(date -u +%Y-%m-%dT%H:%M:%SZ); the smoke test passes.
  status page: an update, if customers have noticed.
  the release manager: $from is not to be released again before its cause is known.
TELL
