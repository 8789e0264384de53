#!/bin/sh
# Runs a node in a container: onboards on the first start, then becomes the node. Settings come as DMS_SECTION_FIELD variables.
#
# DMS_ROLE=bootstrap leaves its address in $MARKET for the others, which wait for it there.
# What it may be given besides: MARKET (a directory the nodes share), BOOTSTRAP_ADDRESS (where the others reach the bootstrap node).
set -eu
market=${MARKET:-/market}

if [ "${DMS_ROLE:-}" != bootstrap ] && [ -z "${DMS_NETWORK_BOOTSTRAP:-}" ]; then
    waited=0
    until [ -s "$market/bootstrap" ]; do
        waited=$((waited + 1))
        [ "$waited" -le 60 ] || { echo "no bootstrap node has shown up in $market" >&2; exit 1; }
        sleep 1
    done
    DMS_NETWORK_BOOTSTRAP=$(cat "$market/bootstrap")
    export DMS_NETWORK_BOOTSTRAP
fi

[ -e "$DMS_HOME/identity.key" ] || dms onboard -- --no-benchmark

if [ "${DMS_ROLE:-}" = bootstrap ]; then
    peer=$(sed -n 's/.*"peer_id": *"\([^"]*\)".*/\1/p' "$DMS_HOME/identity.json")
    echo "${BOOTSTRAP_ADDRESS:-/dns4/bootstrap/tcp/4600}/p2p/$peer" > "$market/bootstrap.new"
    mv "$market/bootstrap.new" "$market/bootstrap"
fi
exec dms up
