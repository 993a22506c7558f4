#!/usr/bin/env bash
# one agent for every limit against a search per limit
# none: what is asked is where learning has a structural edge: eight limits, the same evaluations in all
# Usage: any-budget.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate any-budget --scale "$scale" --seeds 5 --out "runs/ablations/any-budget-$scale" "${@:2}"
pfrl report "runs/ablations/any-budget-$scale"
