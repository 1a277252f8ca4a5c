#!/usr/bin/env bash
# The demo behind `make demo`: a backend, the gateway in front of it, an account with a key, two requests, what was
# metered and what was charged.
#
#   BACKEND      base URL of a real backend; unset: the scripted one is started
#   BACKEND_KEY  the key that the real backend wants, if any
#   MODEL        a model that it serves; unset: the first that it lists
#   DEMO_ONCE    1: end after printing, as it does where standard input is no terminal
#   TOLLGATE     the gateway's binary; unset: the dev build's
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tollgate=${TOLLGATE:-${CARGO_TARGET_DIR:-$root/target}/debug/tollgate}
backend=${BACKEND:-}
model=${MODEL:-}
export BACKEND_KEY=${BACKEND_KEY:-}

work=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-demo.XXXXXX")
pids=()
finish() {
    local code=$?
    trap - EXIT INT TERM
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
    for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
die() {
    printf 'demo: %s\n' "$1" >&2
    [ -z "${2:-}" ] || sed 's/^/    /' "$2" >&2
    exit 1
}

# A loopback port that nothing listens on, outside the range that outgoing connections take theirs from.
free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# wait_for URL PID LOG: until the URL answers 200, the process is gone, or 30 seconds have passed.
wait_for() {
    local deadline=$((SECONDS + 30))
    until curl -fs -o /dev/null --max-time 2 "$1"; do
        kill -0 "$2" 2>/dev/null || die "it ended before it was ready:" "$3"
        [ $SECONDS -lt $deadline ] || die "not ready within 30 seconds:" "$3"
        sleep 0.1
    done
}

# === the backend ===

if [ -n "$backend" ]; then
    backend=${backend%/}
    if [ -z "$model" ]; then
        auth=()
        [ -z "$BACKEND_KEY" ] || auth=(-H "Authorization: Bearer $BACKEND_KEY")
        listed=$(curl -fsS --max-time 10 ${auth[@]+"${auth[@]}"} "$backend/models") || die "no model list at $backend/models: set MODEL"
        model=$(grep -oE '"id"[[:space:]]*:[[:space:]]*"[^"]+"' <<<"$listed" | head -n 1 | sed -E 's/.*"([^"]+)"$/\1/' || true)
        [ -n "$model" ] || die "no model is listed at $backend/models: set MODEL"
    fi
    say "backend: $backend, model $model"
else
    port=$(free_port)
    "$tollgate" backend --listen "127.0.0.1:$port" >"$work/backend.log" 2>&1 &
    pids+=($!)
    wait_for "http://127.0.0.1:$port/_stats" $! "$work/backend.log"
    backend=http://127.0.0.1:$port/v1
    model=${model:-demo-model}
    say "scripted backend: $backend"
fi

# === the gateway ===

gateway=127.0.0.1:$(free_port)
admin=127.0.0.1:$(free_port)
TOLLGATE_ADMIN_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export TOLLGATE_ADMIN_TOKEN
credential=""
[ -z "$BACKEND_KEY" ] || credential='api_key = { env = "BACKEND_KEY" }'
cat >"$work/tollgate.toml" <<TOML
[server]
listen = ["$gateway"]
run_dir = "$work/run"
[admin]
listen = "$admin"
[[admin.token]]
name = "demo"
token = { env = "TOLLGATE_ADMIN_TOKEN" }
role = "admin"
[store]
url = "sqlite://$work/tollgate.db"
[[backend]]
name = "demo"
base_url = "$backend"
$credential
[[model]]
name = "$model"
route = [{ backend = "demo", model = "$model" }]
price = { input = 2.50, output = 10.00 }
[group.default]
models = ["*"]
TOML

"$tollgate" serve --config "$work/tollgate.toml" >"$work/gateway.log" 2>&1 &
pids+=($!)
wait_for "http://$admin/readyz" $! "$work/gateway.log"
say "gateway: http://$gateway, its admin listener: http://$admin"
sed 's/^/    /' "$work/tollgate.toml"

# === an account and a key ===

# operate ARGUMENT...: what an operator types, and what it prints.
operate() {
    printf '$ tollgate %s\n' "$*"
    "$tollgate" "$@" --admin "http://$admin" || die "tollgate $1 $2 failed; the gateway said:" "$work/gateway.log"
}

say "an account with 5 dollars, and a key of it"
operate account create acme --topup 5.00
made=$("$tollgate" key create --name demo --account acme --quota 500000 --json --admin "http://$admin") ||
    die "no key could be made; the gateway said:" "$work/gateway.log"
key=$(grep -oE 'sk-[A-Za-z0-9]{48}' <<<"$made" | head -n 1 || true)
[ -n "$key" ] || die "no key in what tollgate key create prints"
echo '$ tollgate key create --name demo --account acme --quota 500000'
echo "$key"

# === two requests through it ===

# ask STREAM: one chat request; the answer's head goes to a file, for its request id.
ask() {
    curl -sS -N --max-time 120 -D "$work/head" "http://$gateway/v1/chat/completions" \
        -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
        -d "{\"model\":\"$model\",\"stream\":$1,\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"Say hello.\"}]}" ||
        die "the request failed; the gateway said:" "$work/gateway.log"
    printf '\n'
    grep -qE '^HTTP/[0-9.]+ 200' "$work/head" || die "the answer is not a 200; the gateway said:" "$work/gateway.log"
}

# metered: the access line of the request that was just answered. It is written when the body has ended.
metered() {
    local id deadline=$((SECONDS + 5))
    id=$(tr -d '\r' <"$work/head" | sed -nE 's/^[Xx]-[Rr]equest-[Ii]d:[[:space:]]*//p')
    until grep -F -- "$id" "$work/gateway.log" | grep -E '"(prompt|completion)_tokens"' | tail -n 1 | grep .; do
        [ $SECONDS -lt $deadline ] || die "no access line for request $id:" "$work/gateway.log"
        sleep 0.1
    done
}

say "a plain request"
ask false
say "what was metered"
metered
say "a streamed request"
ask true
say "what was metered"
metered
say "what was charged"
# Rows reach the store a moment after their answers.
deadline=$((SECONDS + 10))
until [ "$("$tollgate" usage --key demo --rows --json --admin "http://$admin" | grep -o '"request_id"' | wc -l)" -ge 2 ]; do
    [ $SECONDS -lt $deadline ] || die "not every request was charged; the gateway said:" "$work/gateway.log"
    sleep 0.1
done
operate usage --key demo --by model
operate key show demo
say "the same, as a client with the key sees it: http://$gateway/api/usage/token/"
curl -sS "http://$gateway/api/usage/token/" -H "Authorization: Bearer $key" || die "no usage there:" "$work/gateway.log"
printf '\n'
say "the counters at http://$admin/metrics"
curl -sS "http://$admin/metrics" | grep -E '^[a-z_]*tokens[a-z_]*(\{| )' || die "no token counters there:" "$work/gateway.log"

if [ "${DEMO_ONCE:-}" = 1 ] || [ ! -t 0 ]; then exit 0; fi

say "it stays up; try next (Ctrl-C ends everything)"
cat <<TRY
curl -N http://$gateway/v1/chat/completions -H 'Authorization: Bearer $key' -H 'Content-Type: application/json' \\
    -d '{"model":"$model","stream":true,"messages":[{"role":"user","content":"Tell me about bridges."}]}'
TRY
trap 'exit 0' INT
wait "${pids[${#pids[@]} - 1]}"
