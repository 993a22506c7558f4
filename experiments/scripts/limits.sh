#!/usr/bin/env bash
# learning against the uniform policy from 80 to 20 % of the MACs
# PocketFlow (Wu et al. 2018) and AMC (arXiv 1802.03494): PocketFlow's results over pruning ratios
# Usage: limits.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate limits --scale "$scale" --seeds 5 --out "runs/ablations/limits-$scale" "${@:2}"
pfrl report "runs/ablations/limits-$scale"
