#!/bin/sh
# What an operator does once: bundle and join tokens for two nodes, and the entries of their Envoys.
# environment: SHARED, a folder that the agents see; ENVOY_UID, the user that runs Envoy; ASSAY_SERVER_SOCKET
set -eu
umask 077
if [ -e "$SHARED/registered" ]; then exit 0; fi

assay bundle show > "$SHARED/bundle.pem"
for node in node-1 node-2; do
  assay token generate -spiffeID "spiffe://example.org/$node" | sed 's/^Token: //' > "$SHARED/$node.token"
done

register () {
  # A set-up that was interrupted is repeated: what is there already is fine.
  if assay entry show -spiffeID "spiffe://example.org/$1" | grep -q 'Found 0 entries'; then
    assay entry create -spiffeID "spiffe://example.org/$1" -parentID "spiffe://example.org/$2" -selector "unix:uid:$ENVOY_UID" -x509SVIDTTL 5m
  fi
}
register web node-1
register batch node-1
register backend node-2
touch "$SHARED/registered"
