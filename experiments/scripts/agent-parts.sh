#!/usr/bin/env bash
# what is in the agent
# AMC (arXiv 1802.03494): no table of its own: the parts of the agent one by one
# Usage: agent-parts.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate agent-parts --scale "$scale" --seeds 5 --out "runs/ablations/agent-parts-$scale" "${@:2}"
pfrl report "runs/ablations/agent-parts-$scale"
