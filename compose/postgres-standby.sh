#!/bin/sh
# A streaming replica of postgres-primary: copied from it at the first start.
# environment of the postgres image: PGDATA, POSTGRES_USER, POSTGRES_PASSWORD_FILE
set -eu
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  chown postgres "$PGDATA"
  chmod 700 "$PGDATA"
  PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  export PGPASSWORD
  gosu postgres pg_basebackup -h "${PRIMARY:-postgres-primary}" -U "$POSTGRES_USER" -D "$PGDATA" -R -X stream -c fast
fi
exec gosu postgres postgres "$@"
