#!/usr/bin/env bash
# Simulates two hosts, each with a server, and a third with PostgreSQL and NATS, as network namespaces of this machine.
# Tests the contract with users on different hosts, then disconnects a host's cable and reconnects it.
# Run as root, with iproute2, PostgreSQL and nats-server installed:   bash scripts/two_hosts.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
work=$(mktemp -d)
chown postgres "$work"
chmod 711 "$work"
pg=$(ls -d /usr/lib/postgresql/*/bin | sort --version-sort | tail -n 1)
started=()

on() { ip netns exec "messaging-$1" "${@:2}"; }
as_postgres() { on base runuser -u postgres -- "$@"; }

end() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    as_postgres "$pg/pg_ctl" stop -s -m immediate -D "$work/data" || true
    for host in base a b; do ip netns delete "messaging-$host" || true; done
    rm -rf "$work"
}
trap end EXIT

# --- the network: a switch in the third host, and a cable to each of the others

for host in base a b; do
    ip netns add "messaging-$host"
    on "$host" ip link set lo up
done
on base ip link add switch type bridge
on base ip address add 10.77.0.1/24 dev switch
on base ip link set switch up
number=2
for host in a b; do
    ip link add "cable-$host" netns messaging-base type veth peer name eth0 netns "messaging-$host"
    on base ip link set "cable-$host" master switch up
    on "$host" ip address add "10.77.0.$number/24" dev eth0
    on "$host" ip link set eth0 up
    number=$((number + 1))
done

# --- the shared database and NATS

as_postgres "$pg/initdb" -D "$work/data" -A trust -U postgres --no-instructions >/dev/null
echo "host all all 10.77.0.0/24 trust" >>"$work/data/pg_hba.conf"
echo "listen_addresses = '10.77.0.1'" >>"$work/data/postgresql.conf"
echo "unix_socket_directories = ''" >>"$work/data/postgresql.conf"
as_postgres "$pg/pg_ctl" start -s -w -D "$work/data" -l "$work/log" -o "-h 10.77.0.1"
ip netns exec messaging-base nats-server -a 10.77.0.1 >/dev/null 2>&1 &
started+=($!)
export MESSAGING_DATABASE=postgresql://postgres@10.77.0.1/postgres MESSAGING_RATE_LIMITS=off
MESSAGING_SIGNING_KEYS="k1:$($bin/python -c 'import secrets; print(secrets.token_hex(32))')"
export MESSAGING_SIGNING_KEYS
on base "$bin/messaging" migrate

# --- the contract, on either bus

for bus in postgresql nats://10.77.0.1:4222; do
    servers=()
    for host in a b; do
        address=10.77.0.$([ "$host" = a ] && echo 2 || echo 3)
        # Not by a function: a background function is a shell, and `kill` would end only that shell.
        MESSAGING_BUS=$bus ip netns exec "messaging-$host" "$bin/messaging" serve --bind "$address:8000" \
            >"$work/$host.log" 2>&1 &
        servers+=($!)
        started+=($!)
        on base curl --silent --fail --retry 50 --retry-connrefused --retry-all-errors --retry-delay 1 \
            --output /dev/null "http://$address:8000/ready"
    done
    echo "--- two hosts, bus $bus"
    addresses="http://10.77.0.2:8000 http://10.77.0.3:8000"
    on base env MESSAGING_TEST_PROCESSES="$addresses" "$bin/pytest" -q tests/server/test_processes.py
    echo "--- one host loses its cable"
    on base "$bin/python" -m tests.server.pulled_cable cable-b $addresses
    for process in "${servers[@]}"; do kill "$process" && wait "$process"; done
done
