#!/usr/bin/env bash
# with_server.sh MESSAGING COMMAND [ARGUMENT…]
#
# Starts `MESSAGING serve` on a free port of 127.0.0.1, with a database in a temporary directory, and runs COMMAND with
# the server's base URL as its last argument. Then stops the server and removes the directory. SERVER_LOG names the
# file with the server's output. The exit status is the command's, or 1 if the server did not start or stop.
set -euo pipefail

messaging=$1
shift

directory=$(mktemp -d)
export SERVER_LOG=$directory/server.log
server=

stop() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null || true
    for _ in $(seq 150); do
        kill -0 "$server" 2>/dev/null || { wait "$server" 2>/dev/null || true; server=; return 0; }
        sleep 0.1
    done
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
    echo "error: the server was still running 15 s after SIGTERM" >&2
    return 1
}
trap 'stop || true; rm -rf "$directory"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$messaging" serve --bind "127.0.0.1:$port" --database "sqlite:///$directory/messaging.db" \
    >"$SERVER_LOG" 2>&1 </dev/null &
server=$!

ready=
for _ in $(seq 300); do
    if curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$port/ready"; then
        ready=yes
        break
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$ready" ]; then
    echo "error: the server did not become ready within 30 s; its output:" >&2
    cat "$SERVER_LOG" >&2
    exit 1
fi

status=0
"$@" "http://127.0.0.1:$port" || status=$?
stop || status=1
if [ "$status" -ne 0 ]; then
    echo "--- the server's output ---" >&2
    cat "$SERVER_LOG" >&2
fi
exit "$status"
