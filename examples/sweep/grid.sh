#!/usr/bin/env bash
# Runs all trials of grid.txt on this machine, one after the other. Run it again after an interruption, or to repeat
# the failed trials.
set -euo pipefail
cd "$(dirname "$0")"
. ./run_trial.sh
# Without the trap, Ctrl-C would end only the running trial.
trap 'exit 130' INT
failed=0
for number in $(seq "$(grep -c '' grid.txt)"); do
  run_trial "$number" || failed=1
done
headstart results results --output results.csv --chart results.svg --metric val_accuracy
exit "$failed"
