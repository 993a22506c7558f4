#!/usr/bin/env bash
# pruning and quantization together, one after the other, or one alone
# Galen (arXiv 2212.07818): joint and sequential agents
# Usage: joint.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate joint --scale "$scale" --seeds 5 --out "runs/ablations/joint-$scale" "${@:2}"
pfrl report "runs/ablations/joint-$scale"
