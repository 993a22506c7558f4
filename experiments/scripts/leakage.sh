#!/usr/bin/env bash
# reward from training images or from held-out ones
# AMC (arXiv 1802.03494): section 4: the reward's images are held out of the training set
# Usage: leakage.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate leakage --scale "$scale" --seeds 5 --out "runs/ablations/leakage-$scale" "${@:2}"
pfrl report "runs/ablations/leakage-$scale"
