#!/usr/bin/env bash
# Builds the fuzz targets of the layers and of the gateway, and runs each for some seconds:
#   bash tests/fuzz/run.sh [SECONDS] [TARGET…]
#
# Works with the stable toolchain: what `cargo fuzz` asks of nightly is let through, and no sanitizer is used, since the
# code has no `unsafe` for one to find anything in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-10}
shift || true
wanted=" $* "
out=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
export RUSTC_BOOTSTRAP=1

# Folder, longest input, where to begin from.
fuzz() {
    local folder=$1 longest=$2 seeds=$3 target begin options=(--fuzz-dir "$1" --sanitizer none --target-dir "$out")
    local targets
    mapfile -t targets < <(cargo fuzz list --fuzz-dir "$folder")
    [ ${#targets[@]} -gt 0 ] || { echo "$folder has no targets"; return 1; }
    if [ "$wanted" != "  " ]; then
        mapfile -t targets < <(printf '%s\n' "${targets[@]}" | while read -r target; do
            [[ $wanted != *" $target "* ]] || echo "$target"
        done)
    fi
    [ ${#targets[@]} -gt 0 ] || return 0
    cargo fuzz build "${options[@]}"
    for target in "${targets[@]}"; do
        mkdir -p "$folder/corpus/$target"
        begin=${seeds//TARGET/$target}
        echo "=== $target, $seconds s"
        cargo fuzz run "${options[@]}" "$target" "$folder/corpus/$target" "$begin" -- \
            -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len="$longest" -dict="$folder/words.dict" \
            -print_final_stats=1 -verbosity=0
    done
}

fuzz layers/fuzz 4096 layers/fuzz/seeds/TARGET
fuzz tests/fuzz 16384 config
