#!/usr/bin/env bash
# The demo on a real model, behind `make demo-llm`: llama.cpp with SmolLM2-135M as the backend of demo.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
model=smollm2-135m
key=sk-backend

mkdir -p "$target"
bash "$here/llm_setup.sh" "$target/llm"

log=$(mktemp "${TMPDIR:-/tmp}/tollgate-llm.XXXXXX")
"$target/llm/bin/python" "$here/llm_serve.py" --model "$model" --key "$key" </dev/null >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -f "$log"' EXIT
# Ctrl-C reaches the demo too: it ends itself, and this script after it.
trap : INT TERM

deadline=$((SECONDS + 120))
until url=$(sed -n 's/^ready //p' "$log") && [ -n "$url" ]; do
    if ! kill -0 "$server" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
        echo "demo-llm: the model's server did not start:" >&2
        sed 's/^/    /' "$log" >&2
        exit 1
    fi
    sleep 0.1
done

BACKEND=$url BACKEND_KEY=$key MODEL=$model bash "$here/demo.sh"
