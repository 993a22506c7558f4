#!/usr/bin/env bash
# learning against search at equal evaluations
# AMC (arXiv 1802.03494) and SPDY (arXiv 2201.13096): AMC's section 4.1, with the opponents that it leaves out
# Usage: searchers.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate searchers --scale "$scale" --seeds 5 --out "runs/ablations/searchers-$scale" "${@:2}"
pfrl report "runs/ablations/searchers-$scale"
