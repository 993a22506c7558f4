#!/usr/bin/env bash
# automatic against hand tuning, by trial number
# PocketFlow (Wu et al. 2018): the curve of the talk: accuracy of the best trial so far
# Usage: trials.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate trials --scale "$scale" --seeds 5 --out "runs/ablations/trials-$scale" "${@:2}"
pfrl report "runs/ablations/trials-$scale"
