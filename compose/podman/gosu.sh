#!/bin/sh
# As the program of that name in PostgreSQL's image: runs a command as another user.
# usage: gosu USER COMMAND...
set -eu
user=$1
shift
exec setpriv --reuid="$user" --regid="$user" --init-groups -- "$@"
