#!/bin/sh
# Entrypoint of the PostgreSQL image. Makes the cluster on the first start, then runs the command.
#
# POSTGRES_PASSWORD, POSTGRES_USER (postgres), POSTGRES_DB (the user's name) and POSTGRES_INITDB_ARGS mean what users of
# the well-known image expect; each NAME_FILE names a file to read NAME from instead. Giving both is an error.
# POSTGRES_HOST_AUTH_METHOD=trust starts a server without a password, and says so.
set -eu

fail() {
    echo "entrypoint: $*" >&2
    exit 1
}

# from_file NAME DEFAULT: sets NAME from NAME, else from the file that NAME_FILE names, else to DEFAULT.
from_file() {
    eval "value=\${$1-}; file=\${$1_FILE-}"
    if [ -n "$value" ] && [ -n "$file" ]; then
        fail "$1 and $1_FILE are both set: give one of them"
    fi
    if [ -n "$file" ]; then
        value=$(cat "$file") || fail "$1_FILE: cannot read $file"
    fi
    [ -n "$value" ] || value=$2
    eval "$1=\$value"
    unset "$1_FILE" value file
}

make_cluster() {
    from_file POSTGRES_PASSWORD ''
    from_file POSTGRES_USER postgres
    from_file POSTGRES_DB "$POSTGRES_USER"
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$method" != trust ]; then
        fail 'no password: give POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust for none'
    fi

    # initdb reads the password from a pipe: it is in no argument and no file.
    # Every login over TCP needs it, also one from the container itself.
    set -- --username="$POSTGRES_USER" --auth-local=trust --auth-host="$method" ${POSTGRES_INITDB_ARGS-}
    if [ -n "$POSTGRES_PASSWORD" ]; then
        printf '%s\n' "$POSTGRES_PASSWORD" | initdb --pwfile=/dev/stdin "$@" >&2
    else
        initdb "$@" >&2
    fi
    unset POSTGRES_PASSWORD
    printf 'host all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

    # A server that listens on its socket alone makes the database.
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -c unix_socket_directories=/run/postgresql" -w start >&2
    if [ "$POSTGRES_DB" != postgres ]; then
        createdb -h /run/postgresql -U "$POSTGRES_USER" --no-password "$POSTGRES_DB"
    fi
    pg_ctl -D "$PGDATA" -m fast -w stop >&2
}

if [ "${1-}" = postgres ]; then
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$PGDATA" /run/postgresql
        chown postgres:postgres "$PGDATA" /run/postgresql
        chmod 700 "$PGDATA"
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
    fi
    [ -s "$PGDATA/PG_VERSION" ] || make_cluster
    unset POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE
fi
exec "$@"
