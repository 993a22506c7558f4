#!/usr/bin/env bash
# a limit by projection, by penalty, or by lowering afterwards
# HAQ (arXiv 1811.08886) and AMC (arXiv 1802.03494): AMC's limited action space, HAQ's lowering of bits
# Usage: budgets.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate budgets --scale "$scale" --seeds 5 --out "runs/ablations/budgets-$scale" "${@:2}"
pfrl report "runs/ablations/budgets-$scale"
