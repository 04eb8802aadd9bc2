#!/bin/sh
# etcd (Debian's etcd-server) and ours in turn on this machine: three members each, every write synced, one generator.
# Prints one JSON object on its last line. Arguments go to the comparison: see `--help`.
set -eu
cd "$(dirname "$0")/../.."
if ! command -v etcd >/dev/null; then
    apt-get update >&2
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends etcd-server >&2
    # Debian starts a member of its own; the comparison starts three others.
    systemctl disable --now etcd >&2 2>/dev/null || true
fi
etcd --version >&2
exec cargo run --release --quiet --locked -p matrixai-bench --bin etcd -- "$@"
