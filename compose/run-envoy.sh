#!/bin/sh
# Runs Envoy with a file of envoy-configs/, its mTLS address (where it listens, or whom it calls) set to what this network has.
# usage: run-envoy.sh FILE ADDRESS
set -eu
folder=$(CDPATH='' cd "$(dirname "$0")/../envoy-configs" && pwd)
config=$(sed "s/address: 127.0.0.1, port_value: 15443/address: $2, port_value: 15443/" "$folder/$1")
exec envoy --config-yaml "$config" --disable-hot-restart --file-flush-interval-msec 200 -l warning
