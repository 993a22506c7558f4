#!/usr/bin/env bash
# shares of zeros by layer: uniform, by a rule, learned
# PocketFlow (Wu et al. 2018): its three protocols for shares of zeros: uniform, heuristic and optimal
# Usage: sparsity-ratios.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate sparsity-ratios --scale "$scale" --seeds 5 --out "runs/ablations/sparsity-ratios-$scale" "${@:2}"
pfrl report "runs/ablations/sparsity-ratios-$scale"
