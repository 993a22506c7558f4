#!/usr/bin/env bash
# a policy for one device, judged on another
# HAQ (arXiv 1811.08886): the table of specialisation: the policy of one device run on another
# Usage: devices.sh [smoke|small|paper] [options of 'pfrl ablate', such as --data and --weights]
set -euo pipefail
scale=${1:-small}
pfrl ablate devices --scale "$scale" --seeds 5 --out "runs/ablations/devices-$scale" "${@:2}"
pfrl report "runs/ablations/devices-$scale"
