#!/usr/bin/env bash
# short evaluations against long fine-tuning
# AMC (arXiv 1802.03494) and EagleEye (arXiv 2007.02491): EagleEye's correlation of accuracies before and after fine-tuning
# Usage: proxies.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate proxies --scale "$scale" --seeds 5 --out "runs/ablations/proxies-$scale" "${@:2}"
pfrl report "runs/ablations/proxies-$scale"
