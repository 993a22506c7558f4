#!/usr/bin/env bash
# rules of thumb against learning at equal MACs
# AMC (arXiv 1802.03494): table 2, Plain-20 and ResNet-56 on CIFAR-10 at half the MACs
# Usage: heuristics.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate heuristics --scale "$scale" --seeds 5 --out "runs/ablations/heuristics-$scale" "${@:2}"
pfrl report "runs/ablations/heuristics-$scale"
