#!/usr/bin/env bash
# The official OpenAI SDKs for Python and Node through the gateway, in front of the scripted backend and of a real model.
#
#   tests/sdk/run.sh [--gateway BIN] [--no-llm] [--only WORD]
#
# What it needs is put under target/: the SDKs from PyPI and npm, the model's server from PyPI. The last line says
# `N passed, N failed`; the exit code is 0 when none failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$(cd "$here/../.." && pwd)/target}
work=$target/sdk
gateway=$target/debug/tollgate
llm=yes
rest=()
while [ $# -gt 0 ]; do
    case $1 in
        --gateway) gateway=${2:?--gateway wants a path} && shift 2 ;;
        --no-llm) llm=no && shift ;;
        --only) rest+=(--only "${2:?--only wants a word}") && shift 2 ;;
        *) echo "usage: run.sh [--gateway BIN] [--no-llm] [--only WORD]" >&2 && exit 2 ;;
    esac
done
[ -x "$gateway" ] || { echo "no gateway at $gateway: build it (make build) or name it with --gateway" >&2; exit 2; }
for tool in python3 node npm; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: these tests want Python 3 with venv, Node and npm" >&2; exit 2; }
done

mkdir -p "$work/node"
if ! cmp -s "$here/requirements.txt" "$work/venv/requirements.txt"; then
    echo "installing the Python SDK"
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$work/venv/requirements.txt"
fi
if ! cmp -s "$here/package.json" "$work/node/package.json"; then
    echo "installing the Node SDK"
    rm -rf "$work/node"
    mkdir -p "$work/node"
    cp "$here/package.json" "$work/node/new.json"
    (cd "$work/node" && mv new.json package.json && npm install --silent --no-package-lock --no-audit --no-fund) ||
        { rm -rf "$work/node"; echo "the Node SDK could not be installed" >&2; exit 1; }
fi
# Node looks for packages beside the script, so the script goes to them.
cp "$here/cases.mjs" "$work/node/cases.mjs"
if [ "$llm" = yes ]; then
    bash "$here/../demo/llm_setup.sh" "$target/llm"
    rest+=(--llm-python "$target/llm/bin/python")
fi

exec "$work/venv/bin/python" -B "$here/run.py" --gateway "$gateway" --node-script "$work/node/cases.mjs" ${rest[@]+"${rest[@]}"}
