#!/bin/sh
# A client workload: plain HTTP to its node's Envoy every two seconds; prints the answers.
# usage: call.sh PORT
set -eu
workloads=$(CDPATH='' cd "$(dirname "$0")/../src/cli/demo/workloads" && pwd)
while :; do echo call; sleep 2; done | exec node "$workloads/caller.ts" 127.0.0.1 "$1"
