#!/bin/sh
# What compose.yaml expects of PostgreSQL's image: at the first start a database of POSTGRES_USER, reached with a password from anywhere.
# environment: PGDATA, POSTGRES_USER, POSTGRES_PASSWORD_FILE
set -eu
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  chown postgres "$PGDATA"
  chmod 700 "$PGDATA"
  gosu postgres initdb -D "$PGDATA" -U "$POSTGRES_USER" -E UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 \
    --pwfile="$POSTGRES_PASSWORD_FILE" > /dev/null
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  echo "unix_socket_directories = '/tmp'" >> "$PGDATA/postgresql.conf"
  echo "create database $POSTGRES_USER" | gosu postgres postgres --single -D "$PGDATA" postgres > /dev/null
  for script in /docker-entrypoint-initdb.d/*.sh; do
    if [ -e "$script" ]; then . "$script"; fi
  done
fi
exec gosu postgres postgres "$@"
