#!/usr/bin/env bash
# mixed against fixed bits at equal cost
# HAQ (arXiv 1811.08886): the tables of fixed and mixed precision at equal cost
# Usage: mixed-bits.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate mixed-bits --scale "$scale" --seeds 5 --out "runs/ablations/mixed-bits-$scale" "${@:2}"
pfrl report "runs/ablations/mixed-bits-$scale"
