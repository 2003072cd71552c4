#!/bin/sh
# What the servers and their database share and nobody else has: made once.
# environment: SECRETS, the folder
set -eu
umask 077
mkdir -p "$SECRETS"
random () { od -An -vtx1 -N32 /dev/urandom | tr -d ' \n'; }
if [ ! -e "$SECRETS/key-encryption-key" ]; then random > "$SECRETS/key-encryption-key"; fi
if [ ! -e "$SECRETS/postgres-password" ]; then random > "$SECRETS/postgres-password"; fi
# 999 is who runs PostgreSQL in its image.
if [ "$(id -u)" = 0 ]; then chown 999 "$SECRETS/postgres-password"; fi
echo "*:*:*:assay:$(cat "$SECRETS/postgres-password")" > "$SECRETS/pgpass"
