#!/usr/bin/env bash
# OpenBLAS sgemm (numpy's) and `matrixai drill bench` in turn, on the same threads, on this machine:
#   bench/peers/gemm.sh [MATRIXAI_BINARY] [ROUNDS]
# Installs numpy into a temporary folder. Prints, for one thread and for all, the medians and ours over theirs; sgemm
# may round as it likes, fgemm may not.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-target/release/matrixai}
rounds=${2:-5}
# Settings that hold numpy back would flatter us.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy
cat > "$work/sgemm.py" <<'PY'
import sys, time
import numpy as np

side, seconds = 1024, 1.0
a, b = (np.random.default_rng(seed).random((side, side), dtype=np.float32) for seed in (1, 2))
out = np.empty((side, side), dtype=np.float32)
np.dot(a, b, out=out)
rates, until = [], time.monotonic() + seconds
while time.monotonic() < until:
    start = time.monotonic()
    np.dot(a, b, out=out)
    rates.append(2 * side**3 / (time.monotonic() - start))
print(sorted(rates)[len(rates) // 2])
PY
cat > "$work/compare.py" <<'PY'
import json, os, statistics, subprocess, sys

binary, python, script, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
theirs, ours = {}, {}
for _ in range(rounds):
    bench = subprocess.run([binary, "drill", "bench", "--rounds", "3", "--output", "json"], check=True, capture_output=True, text=True)
    for device in json.loads(bench.stdout.splitlines()[-1])["devices"]:
        threads = device["threads"]
        for kernel in device["kernels"]:
            if kernel["kernel"].startswith("fgemm"):
                ours.setdefault((device["name"], threads, kernel["kernel"]), []).append(kernel["ops_per_s"])
        environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(threads))
        run = subprocess.run([python, script], check=True, capture_output=True, text=True, env=environment)
        theirs.setdefault(threads, []).append(float(run.stdout))
for (name, threads, kernel), rates in ours.items():
    us, them = statistics.median(rates) / 1e9, statistics.median(theirs[threads]) / 1e9
    print(f"{name}, {threads} threads, {kernel}: {us:.1f} Gflop/s, OpenBLAS {them:.1f}, ratio {us / them:.2f}")
PY
python3 "$work/compare.py" "$binary" "$work/venv/bin/python" "$work/sgemm.py" "$rounds"
