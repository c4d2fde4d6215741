#!/usr/bin/env bash
# Train the starts and all arms of a study side by side on one GPU, and write the study's table.
#
# benchmarks/gpu_arms.sh STORE OUT [STUDY]
#
# STORE has tiles and cells. STUDY is studies/arms.yaml by default. PARALLEL is the number of runs at a time, by
# default half of the cores: each run has one process that reads tiles. Without a GPU the runs share the cores.
# After MINUTES, 14 by default, it stops with exit code 124 and the table of the finished runs. The same command
# goes on.
set -euo pipefail
store=$1 out=$2 study=${3:-$(dirname "$0")/../studies/arms.yaml}
cores=$(nproc)
parallel=${PARALLEL:-$(((cores + 1) / 2))}

status=0
timeout --signal=TERM "${MINUTES:-14}m" python -m dirl study "$study" --store "$store" --out "$out" \
  --parallel "$parallel" --workers 1 || status=$?
[ ! -e "$out/table.md" ] || cat "$out/table.md"
exit "$status"
