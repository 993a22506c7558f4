#!/usr/bin/env bash
# a limit on MACs or on latency
# AMC (arXiv 1802.03494): MobileNet at half the MACs and at half the time
# Usage: macs-or-latency.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate macs-or-latency --scale "$scale" --seeds 5 --out "runs/ablations/macs-or-latency-$scale" "${@:2}"
pfrl report "runs/ablations/macs-or-latency-$scale"
