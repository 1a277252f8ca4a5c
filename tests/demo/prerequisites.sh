#!/usr/bin/env bash
# Sees to what the build needs besides Rust: a C compiler, make (zlib-ng's build), cmake; and curl, for the demo.
# What is missing is installed where a package manager can be used; else the message says what to install.
set -euo pipefail

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

command -v "${CARGO:-cargo}" >/dev/null || fail "Rust is missing: install its stable toolchain with rustup, then try again."
command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null ||
    fail "A C compiler is missing: install gcc or clang (Debian: build-essential; macOS: xcode-select --install)."

missing=()
for tool in cmake curl; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    # Never a password prompt in the middle of a build: sudo only where it asks for none, or where someone can answer.
    if sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then as_root=(sudo); fi
fi
can_root() { [ "$(id -u)" -eq 0 ] || [ ${#as_root[@]} -gt 0 ]; }

echo "installing: ${missing[*]}"
if command -v brew >/dev/null; then
    brew install "${missing[@]}"
elif command -v apt-get >/dev/null && can_root; then
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" ca-certificates >/dev/null
elif command -v dnf >/dev/null && can_root; then
    ${as_root[@]+"${as_root[@]}"} dnf install -y -q "${missing[@]}"
else
    fail "Missing: ${missing[*]}, and no way to install it from here (no brew, and apt-get or dnf only as root)." \
        "Install it, then try again. cmake builds zlib-ng, which Pingora uses."
fi
for tool in "${missing[@]}"; do
    command -v "$tool" >/dev/null || fail "$tool is still missing after its installation."
done
