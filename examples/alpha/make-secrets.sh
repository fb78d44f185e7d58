#!/bin/sh
# Makes up the keys of the gateway in a folder, and leaves alone those that are there.
#   sh make-secrets.sh secrets                      for compose.yaml
#   sudo sh make-secrets.sh /etc/radgateway/secrets  for systemd
set -eu

if [ $# -ne 1 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
mkdir -p "$1"
chmod 700 "$1"
# A container has to be able to read its own; nobody else gets into the folder.
for name in gateway_key gateway_admin_key; do
    [ -e "$1/$name" ] && continue
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$1/$name"
    chmod 444 "$1/$name"
done
echo "the keys are in $1"
