#!/usr/bin/env bash
# two_user_scenario.sh [BASE_URL]
#
# Plays the two-user scenario against a running server with curl and wscat, prints a line for each promise that a
# frontend relies on, and exits with 1 if one of them does not hold. BASE_URL is http://localhost:8000 by default.
#
# ALICE_EMAIL, BOB_EMAIL   e-mail addresses to register; new ones by default
# WSCAT                    the wscat to use; by default the one of node_modules, else the one on PATH
# SERVER_LOG               a file with the server's output: its four log lines are checked too
set -euo pipefail

base=${1:-http://localhost:8000}
base=${base%/}
api=$base/api/v1
sockets=ws${base#http}/ws
origin=http://localhost:5173
patience=100 # timeout of each wait, in tenths of a second

unique=$(date +%s)$$
alice_email=${ALICE_EMAIL:-alice$unique@test.com}
bob_email=${BOB_EMAIL:-bob$unique@test.com}

wscat=${WSCAT:-$(dirname "$0")/../node_modules/.bin/wscat}
command -v "$wscat" >/dev/null || wscat=wscat
for tool in curl python3 "$wscat"; do
    command -v "$tool" >/dev/null || { echo "error: $tool is needed (wscat: npm ci)" >&2; exit 2; }
done

work=$(mktemp -d)
started=() # the processes that this script started, and ends
finish() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

failures=0
row() { # row NAME STATUS [DETAIL]: one line of the report
    if [ "$2" -eq 0 ]; then
        echo "✅ $1"
    else
        echo "❌ $1${3:+: $3}"
        failures=$((failures + 1))
    fi
}

uuid() { python3 -c 'import uuid; print(uuid.uuid4())'; }

# call METHOD PATH TOKEN [JSON]: stores the status in $status and the body in $body.
call() {
    local arguments=(--silent --show-error --max-time 10 --request "$1" --header "Origin: $origin")
    [ -z "$3" ] || arguments+=(--header "Authorization: Bearer $3")
    [ $# -lt 4 ] || arguments+=(--header "Content-Type: application/json"
        --header "Idempotency-Key: $(uuid)" --data "$4")
    status=$(curl "${arguments[@]}" --output "$work/body" --write-out '%{http_code}' "$api$2") || status=000
    body=$(cat "$work/body" 2>/dev/null || true)
    : >"$work/body"
}

# holds EXPRESSION [NAME=VALUE…]: whether the Python expression is true of `body`, the parsed response. Values are
# strings.
holds() {
    BODY=$body python3 - "$@" <<'PYTHON'
import json, os, re, sys

try:
    body = json.loads(os.environ["BODY"])
    names = dict(pair.split("=", 1) for pair in sys.argv[2:])
    sys.exit(not eval(sys.argv[1], {"body": body, "re": re, **names}))
except (ValueError, LookupError, TypeError, AttributeError):
    sys.exit(1)
PYTHON
}

# field PATH: prints a value of the response, by dotted keys; nothing if it is missing.
field() {
    BODY=$body python3 - "$1" <<'PYTHON'
import json, os, sys

try:
    value = json.loads(os.environ["BODY"])
    for key in sys.argv[1].split("."):
        value = value[key]
    print(value)
except (ValueError, LookupError, TypeError):
    pass
PYTHON
}

# check NAME EXPECTED_STATUS EXPRESSION [NAME=VALUE…]: a row about the last response.
check() {
    local name=$1 expected=$2
    shift 2
    if [ "$status" != "$expected" ]; then
        row "$name" 1 "status $status instead of $expected: $body"
    elif holds "$@"; then
        row "$name" 0
    else
        row "$name" 1 "$body"
    fi
}

# open_socket NAME TOKEN: wscat in the background, its terminal written to $work/NAME.
# wscat prints connections and close codes on a terminal only, so `pty` provides one.
open_socket() {
    python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' \
        "$wscat" --no-color --connect "$sockets?token=$2" >"$work/$1" 2>&1 </dev/null &
    started+=($!)
}

# lines NAME: prints the output of the wscat of that name, without the terminal's control sequences.
lines() {
    python3 - "$work/$1" <<'PYTHON'
import re, sys

text = open(sys.argv[1], encoding="utf-8", errors="replace").read()
text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
print("\n".join(line.removeprefix("> ") for line in re.split(r"[\r\n]+", text) if line.strip("> ")))
PYTHON
}

frames() { lines "$1" | sed -n 's/^< //p'; }

# eventually COMMAND…: repeats the command until it succeeds or the timeout ends.
eventually() {
    for _ in $(seq "$patience"); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    return 1
}
printed() { lines "$1" | grep -q -- "$2"; }
received() { [ "$(frames "$1" | wc -l)" -ge "$2" ]; }

user_shape='set(%s) == {"id", "email", "display_name", "tag", "avatar_url", "created_at"}'
time_shape='re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", %s)'

# --- CORS and docs ---------------------------------------------------------------------------------------------

headers=$(curl --silent --max-time 10 -I "$api/chats" -H "Origin: $origin" || true)
grep -qi '^access-control-allow-origin:' <<<"$headers" && result=0 || result=1
row "CORS: curl -I /chats without a token carries Access-Control-Allow-Origin" "$result" "$headers"

headers=$(curl --silent --max-time 10 --request OPTIONS --output /dev/null --dump-header - "$api/messages" \
    -H "Origin: $origin" -H "Access-Control-Request-Method: POST" \
    -H "Access-Control-Request-Headers: authorization,content-type,idempotency-key" || true)
result=0
for name in authorization content-type idempotency-key; do
    grep -i '^access-control-allow-headers:' <<<"$headers" | grep -qi "$name" || result=1
done
row "CORS: a preflight allows Authorization, Content-Type and Idempotency-Key by name" "$result" "$headers"

code=$(curl --silent --max-time 10 --location --output "$work/docs" --write-out '%{http_code}' "$base/docs" || true)
[ "$code" = 200 ] && grep -qi '<html' "$work/docs" && result=0 || result=1
row "Docs: /docs opens a page" "$result" "status $code"

# --- two people ------------------------------------------------------------------------------------------------

call POST /auth/register "" \
    "{\"email\": \"$alice_email\", \"password\": \"password123\", \"display_name\": \"Alice\"}"
check "Alice registers: 201, a token pair" 201 \
    'body["token_type"] == "bearer" and body["access_token"] and body["refresh_token"] and body["expires_in"] >= 900'
alice=$(field access_token)

call POST /auth/register "" \
    "{\"email\": \"$bob_email\", \"password\": \"password123\", \"display_name\": \"Bob\"}"
check "Bob registers: 201, a token pair" 201 \
    'body["token_type"] == "bearer" and body["access_token"] and body["refresh_token"] and body["expires_in"] >= 900'
bob=$(field access_token)

if [ -z "$alice" ] || [ -z "$bob" ]; then
    echo "The other checks need both tokens: stopping here." >&2
    exit 1
fi

call GET /users/me "$bob"
check "GET /users/me: Bob himself, in the user's shape" 200 \
    "$(printf "$user_shape" body) and body['email'] == email and $(printf "$time_shape" "body['created_at']")" \
    "email=$bob_email"
bob_id=$(field id)
bob_tag=$(field tag)

call GET /users/me "$alice"
alice_id=$(field id)
alice_tag=$(field tag)
check "Tags come from the names: Alice -> alice, alice2 …" 200 're.fullmatch(r"alice\d*", body["tag"])'

call GET /users/me ""
check "GET /users/me without a token: 401" 401 'isinstance(body["detail"], str)'

call GET "/users/search?tag=$alice_tag" "$bob"
check "GET /users/search?tag=$alice_tag finds Alice" 200 'str(body["id"]) == alice' "alice=$alice_id"
call GET "/users/search?tag=@$alice_tag" "$bob"
check "GET /users/search?tag=@$alice_tag finds Alice" 200 'str(body["id"]) == alice' "alice=$alice_id"
call GET "/users/search?tag=no.such.tag.$unique" "$bob"
check "GET /users/search for an unknown tag: 404" 404 'isinstance(body["detail"], str)'

# --- their chat ------------------------------------------------------------------------------------------------

direct='body["title"] == "Direct Message" and body["is_group"] is False
    and {str(user["id"]) for user in body["participants"]} == {alice, bob}
    and all('"$(printf "$user_shape" user)"' for user in body["participants"])'
direct=$(tr '\n' ' ' <<<"$direct")

call POST /chats/direct "$alice" "{\"user_id\": ${bob_id:-0}}"
check "POST /chats/direct from Alice: 200, with both participants" 200 "$direct" "alice=$alice_id" "bob=$bob_id"
chat_id=$(field id)
call POST /chats/direct "$bob" "{\"user_id\": ${alice_id:-0}}"
check "POST /chats/direct from Bob: 200 again, the same chat" 200 "$direct and str(body['id']) == chat" \
    "alice=$alice_id" "bob=$bob_id" "chat=$chat_id"

call GET /chats "$bob"
check "GET /chats: a bare array, with participants" 200 \
    'isinstance(body, list) and [len(chat["participants"]) for chat in body if str(chat["id"]) == chat_id] == [2]' \
    "chat_id=$chat_id"
call GET "/chats/${chat_id:-0}" "$alice"
check "GET /chats/{id}: with participants" 200 "$direct" "alice=$alice_id" "bob=$bob_id"

# --- their sockets ---------------------------------------------------------------------------------------------

open_socket alice "$alice"
open_socket bob "$bob"
open_socket stranger "not-a-token"
for name in alice bob; do
    eventually printed "$name" '^Connected' && result=0 || result=1
    row "WebSocket of $name opens with ?token=" "$result" "$(lines "$name")"
done
eventually printed stranger 'Disconnected (code: 1008' && result=0 || result=1
row "WebSocket with a bad token is closed with 1008" "$result" "$(lines stranger)"

call POST /messages "$alice" "{\"chat_id\": ${chat_id:-0}, \"type\": \"text\", \"content\": \"Hello Bob! Привет!\"}"
check "POST /messages: 201, the message" 201 'body["content"] == "Hello Bob! Привет!"'
message_id=$(field id)

event='set(body) == {"event", "data"} and body["event"] == "message.created"
    and set(body["data"]) == {"id", "chat_id", "author_id", "type", "content", "payload", "ts"}
    and [str(body["data"][key]) for key in ("id", "chat_id", "author_id")] == [message, chat, alice]
    and [body["data"][key] for key in ("type", "content", "payload")] == ["text", "Hello Bob! Привет!", None]
    and '"$(printf "$time_shape" 'body["data"]["ts"]')"
event=$(tr '\n' ' ' <<<"$event")
for name in alice bob; do
    eventually received "$name" 1 || true
    body=$(frames "$name")
    holds "$event" "message=$message_id" "chat=$chat_id" "alice=$alice_id" && result=0 || result=1
    row "WebSocket of $name received the event, once, in the exact shape" "$result" "$(lines "$name")"
done
[ -n "$(frames alice)" ] && [ "$(frames alice)" = "$(frames bob)" ] && result=0 || result=1
row "Both received the same event" "$result"

call GET "/messages?chat_id=${chat_id:-0}" "$bob"
check "GET /messages: a bare array, newest first" 200 'str(body[0]["id"]) == message' "message=$message_id"

# --- the server's log ------------------------------------------------------------------------------------------

if [ -n "${SERVER_LOG:-}" ]; then
    for line in "WebSocket connected: user_id=$alice_id" "Message created: $message_id in chat $chat_id" \
        "Sending WebSocket event to user $bob_id: message.created" "Broadcasting to 2 participants"; do
        grep -qF -- "$line" "$SERVER_LOG" && result=0 || result=1
        row "Log: $line" "$result"
    done
    ! grep -qF -e "$alice" -e "$bob" -e password123 "$SERVER_LOG" && result=0 || result=1
    row "Log: holds no token and no password" "$result"
fi

echo
if [ "$failures" -eq 0 ]; then
    echo "Everything works."
else
    echo "$failures of the rows above do not hold."
    exit 1
fi
