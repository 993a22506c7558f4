#!/usr/bin/env bash
# DDPG, PPO, TD3 and SAC, and what AMC changed of DDPG
# AMC (arXiv 1802.03494) and its successors: no table of its own: section 3.2's choices one by one
# Usage: agent-kinds.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate agent-kinds --scale "$scale" --seeds 5 --out "runs/ablations/agent-kinds-$scale" "${@:2}"
pfrl report "runs/ablations/agent-kinds-$scale"
