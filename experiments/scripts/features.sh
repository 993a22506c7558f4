#!/usr/bin/env bash
# what the agent sees, removed one by one
# AMC (arXiv 1802.03494): table 1's state, and what was added to it
# Usage: features.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate features --scale "$scale" --seeds 5 --out "runs/ablations/features-$scale" "${@:2}"
pfrl report "runs/ablations/features-$scale"
