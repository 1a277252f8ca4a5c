#!/usr/bin/env bash
# Builds the fuzz targets and runs each for some seconds: bash layers/fuzz/run.sh [SECONDS] [TARGET…]
#
# Works with the stable toolchain: what `cargo fuzz` asks of nightly is let through, and no sanitizer is used, since the
# code has no `unsafe` for one to find anything in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-10}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
out=${CARGO_TARGET_DIR:-$PWD/../target}/fuzz
export RUSTC_BOOTSTRAP=1
cargo fuzz build --sanitizer none --target-dir "$out"
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    echo "=== $target, $seconds s"
    cargo fuzz run --sanitizer none --target-dir "$out" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -dict=fuzz/words.dict \
        -print_final_stats=1 -verbosity=0
done
