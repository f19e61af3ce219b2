#!/bin/sh
# The main job, end to end, on a node in a sandbox of its own: demo.sh BINARIES POSTGRES.tar
# Prints each command and its answer. Everything ends and is removed with the script, however it ends.
set -eu

bin=$(cd "$1" && pwd)
image=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)

. "$here/demo/common.sh"
sandbox -- "$0" "$bin" "$image"

run() {
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    eval "$@"
}

cd "$DEMO_WORK"
# Images are kept for the next run, as long as it is the same image and the same secretd; the rest of the node is new.
store=$(dirname "$image")/demo-images
stamp=$(sha256sum "$bin/secretd" "$image" "$here/images/postgres/changes")
[ "$(cat "$store.stamp" 2>/dev/null)" = "$stamp" ] || rm -rf "$store"
mkdir -p data run "$store"
printf '%s\n' "$stamp" >"$store.stamp"
mkdir -p data/images
mount --bind "$store" data/images
PATH=$bin:$PATH
export SCTL_HOST="unix://$DEMO_WORK/run/control.sock"

step 'A node: one daemon, its directories, nothing else'
printf '%s$ secretd --data-dir D --run-dir R &%s\n' "$bold" "$plain"
secretd --data-dir "$DEMO_WORK/data" --run-dir "$DEMO_WORK/run" --cgroup-parent "$DEMO_CGROUP" >log 2>&1 &
run sctl cluster init --advertise-addr 127.0.0.1 || fail 'secretd does not answer'
run sctl node ls

step 'A password becomes a secret: sealed in sctl, opened nowhere but in the containers that are granted it'
password=$(head -c 18 /dev/urandom | base64)
printf '%s$ echo ******** | sctl secret create psql-pw -%s\n' "$bold" "$plain"
echo "$password" | sctl secret create psql-pw -
run sctl secret ls

step "A PostgreSQL image, made from Debian's packages"
if sctl image inspect postgres:15 >/dev/null 2>&1; then
    echo '(kept from an earlier run)'
else
    set --
    while IFS= read -r change; do set -- "$@" --change "$change"; done <"$here/images/postgres/changes"
    printf '%s$ sctl image import --tag postgres:15 --change ... postgres.tar%s\n' "$bold" "$plain"
    sctl image import --tag postgres:15 "$@" "$image"
fi
run sctl image ls

step 'The database takes its password from a file that only its container can open'
run sctl service create --name db --secret psql-pw -e POSTGRES_PASSWORD_FILE=/run/secrets/psql-pw postgres:15
run sctl service ps db
tries=0
until sctl exec db.1 pg_isready -q -h 127.0.0.1; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail 'PostgreSQL does not answer'
    sleep 0.1
done
run sctl exec db.1 ls -l /run/secrets/psql-pw

step 'A login over TCP with that password works'
login='psql -h 127.0.0.1 -U postgres -tAc "select version()"'
run "sctl exec db.1 sh -c 'PGPASSWORD=\$(cat /run/secrets/psql-pw) $login'" || fail 'the login was refused'

step 'A login with another password is refused'
if run "sctl exec -e PGPASSWORD=wrong db.1 $login"; then fail 'the login was not refused'; fi

step 'The secret is in no mount table of the host, and in no file of it'
run 'grep -c /run/secrets /proc/self/mountinfo || true'
if grep -q /run/secrets /proc/self/mountinfo; then fail 'the mount is visible'; fi
# The pattern comes on standard input: it is in no argument.
printf '%s$ grep --recursive --fixed-strings --count PASSWORD D R%s\n' "$bold" "$plain"
if printf '%s' "$password" | grep --recursive --fixed-strings --quiet --devices=skip --file=- \
    --exclude-dir=images --exclude-dir=rootfs "$DEMO_WORK" /run /var/tmp 2>/dev/null; then
    fail 'the password is in a file'
fi
echo 0

step 'Root of the host is refused, even through /proc, and every open is on record'
pid=$(for directory in /proc/[0-9]*; do
    if grep -q ' /run/secrets ' "$directory/mountinfo" 2>/dev/null; then basename "$directory"; break; fi
done)
run "cat /proc/$pid/root/run/secrets/psql-pw || true"
run tail -n 2 data/audit/reads.log

step 'A new version reaches the running container at once'
printf '%s$ echo ******** | sctl secret update psql-pw -%s\n' "$bold" "$plain"
head -c 18 /dev/urandom | base64 | sctl secret update psql-pw -
run sctl secret ls
sctl exec db.1 cat /run/secrets/psql-pw | cmp -s - /dev/fd/3 3<<END && fail 'the old version is still there'
$password
END
echo 'the container reads the new version'

step 'A secret in use cannot be removed; without its service it can'
run 'sctl secret rm psql-pw || true'
run sctl service rm db
run sctl secret rm psql-pw
