#!/bin/sh
# Runs once in the primary, whose image lets nobody replicate by itself; read by the shell that prepares the database.
echo "host replication $POSTGRES_USER all scram-sha-256" >> "$PGDATA/pg_hba.conf"
