#!/usr/bin/env bash
# what is rewarded
# AMC (arXiv 1802.03494), HAQ (arXiv 1811.08886), MnasNet (arXiv 1807.11626), Galen (arXiv 2212.07818): their formulas side by side
# Usage: rewards.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate rewards --scale "$scale" --seeds 5 --out "runs/ablations/rewards-$scale" "${@:2}"
pfrl report "runs/ablations/rewards-$scale"
