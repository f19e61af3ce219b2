#!/bin/sh
# Three managers and two workers on one machine, and what happens when the leader is killed while a client writes:
# demo-cluster.sh BINARIES
# Each node has a network namespace of its own. Everything ends and is removed with the script, however it ends.
set -eu

bin=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

. "$here/demo/common.sh"
sandbox --net --uts -- "$0" "$bin"

# on N COMMAND...: runs it as if on node N, and shows it.
on() {
    number=$1
    shift
    printf '%sn%s# %s%s\n' "$bold" "$number" "$*" "$plain"
    quietly "$number" "$@" || fail "it has failed: $*"
}
quietly() {
    number=$1
    shift
    SCTL_HOST=unix://$DEMO_WORK/n$number/run/control.sock "$@"
}
# until DESCRIPTION COMMAND...: repeats a command until it succeeds; sctl itself takes its time.
until_true() {
    what=$1
    shift
    end=$(($(date +%s) + 60))
    until "$@"; do
        [ "$(date +%s)" -lt $end ] || fail "it has not come about: $what"
    done
}
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

PATH=$bin:$PATH
cd "$DEMO_WORK"
ip link set lo up
ip link add br0 type bridge
ip link set br0 up

step 'Five nodes, each with a network of its own, on one bridge'
mkdir -p root/bin root/tmp root/etc root/proc root/sys root/dev root/run
cp "$(command -v busybox)" root/bin/busybox
for applet in sh sleep cat hostname date; do ln -s busybox "root/bin/$applet"; done
tar -C root -cf busybox.tar .
for n in 1 2 3 4 5; do
    mkdir -p "n$n/data" "n$n/run"
    unshare --net --uts -- sh -c "
        hostname n$n
        sleep infinity &
        echo \$! >$DEMO_WORK/n$n/net # it holds the network while secretd is gone
        echo ready >$DEMO_WORK/n$n/made
        while [ ! -e $DEMO_WORK/n$n/wired ]; do read -r _ <$DEMO_WORK/n$n/wait || true; done
        ip link set lo up && ip addr add 10.78.0.$n/24 dev eth0 && ip link set eth0 up
        exec secretd --data-dir $DEMO_WORK/n$n/data --run-dir $DEMO_WORK/n$n/run --cgroup-parent $DEMO_CGROUP-$n
    " >"n$n/log" 2>&1 &
    echo $! >"n$n/pid"
    mkfifo "n$n/wait" 2>/dev/null || true
done
for n in 1 2 3 4 5; do
    until_true "n$n has a network" test -e "n$n/made"
    ip link add "v$n" type veth peer name eth0 netns "$(cat "n$n/pid")"
    ip link set "v$n" master br0 up
    touch "n$n/wired"
    echo go >"n$n/wait"
done

step 'Three managers and two workers become a cluster'
on 1 sctl cluster init
for n in 2 3; do on $n sctl cluster join --token "$(quietly 1 sctl cluster join-token -q manager)" 10.78.0.1; done
for n in 4 5; do on $n sctl cluster join --token "$(quietly 1 sctl cluster join-token -q worker)" 10.78.0.2; done
on 4 sctl info --format '{{.Cluster.LocalNodeState}}, control available: {{.Cluster.ControlAvailable}}'
on 2 sctl node ls

step 'A secret and a service, through managers that do not lead'
for n in 1 2 3 4 5; do quietly $n sctl image import --tag busybox:1 busybox.tar >/dev/null; done
printf '%sn2# echo hunter2 | sctl secret create psql-pw -%s\n' "$bold" "$plain"
echo hunter2 | quietly 2 sctl secret create psql-pw -
on 3 sctl service create --name app --replicas 6 --secret psql-pw --stop-signal KILL --update-monitor 0s --quiet \
    busybox:1 sleep 100000
on 2 sctl service ps app --format 'table {{.Name}} {{.Node}} {{.CurrentState}}'
on 2 sctl exec app.4 cat /run/secrets/psql-pw

step 'The leader is killed while a client writes through another manager'
leader=$(quietly 1 sctl node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sed -n 's/^n\([1-3]\) Leader$/\1/p')
[ -n "$leader" ] || fail 'nobody leads'
via=$((leader % 3 + 1)) third=$((via % 3 + 1)) # the other two managers
client() {
    count=0
    while [ ! -e stop ]; do
        before=$(milliseconds)
        echo "$count" | quietly $via sctl secret create "w$count" - >>written 2>>refused && echo "w$count" >>acknowledged
        echo "$(($(milliseconds) - before))" >>took
        count=$((count + 1))
    done
}
: >acknowledged
: >refused
client &
client=$!
until_true 'the client has written' sh -c '[ $(wc -l <acknowledged) -ge 20 ]'
kill -9 "$(cat "n$leader/pid")"
killed=$(wc -l <acknowledged)
echo "n$leader, which led, is gone after $killed writes that were acknowledged"
until_true 'the client writes again' sh -c "[ \$(wc -l <acknowledged) -ge $((killed + 40)) ]"
touch stop
wait $client
longest=$(sort -n took | tail -n 1)
echo "writes acknowledged: $(wc -l <acknowledged), refused: $(wc -l <refused), the longest took $longest ms"

step 'Nothing that was acknowledged is lost'
quietly $third sctl secret ls --format '{{.Name}}' | sort >there
sort acknowledged >wanted
lost=$(comm -23 wanted there | wc -l)
echo "acknowledged: $(wc -l <wanted), lost: $lost"
[ "$lost" = 0 ] || fail "$lost writes are lost"

step "What ran on n$leader runs elsewhere"
runs() { quietly $via sctl service ps app -f desired-state=running --format '{{.Node}} {{.CurrentState}}' | grep ' Running'; }
elsewhere() { [ "$(runs | wc -l)" = 6 ] && ! runs | grep -q "^n$leader "; }
until_true 'six tasks run on the other nodes' elsewhere
on $via sctl node ls
on $via sctl service ps app -f desired-state=running --format 'table {{.Name}} {{.Node}} {{.CurrentState}}'

step "n$leader comes back, catches up, and ends its old containers"
nsenter --target "$(cat "n$leader/net")" --net --uts -- \
    secretd --data-dir "$DEMO_WORK/n$leader/data" --run-dir "$DEMO_WORK/n$leader/run" --cgroup-parent "$DEMO_CGROUP-$leader" >>"n$leader/log" 2>&1 &
same() { [ "$(quietly $leader sctl secret ls -q 2>/dev/null | wc -l)" = "$(wc -l <there)" ]; }
until_true "n$leader answers with everything" same
on $leader sctl node ls
printf '\nDone: %s writes acknowledged, none lost; the longest took %s ms.\n' "$(wc -l <wanted)" "$longest"
