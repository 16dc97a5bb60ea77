#!/usr/bin/env bash
# Runs all trials of grid.txt on this machine, one after the other. Run it again after an interruption.
set -euo pipefail
cd "$(dirname "$0")"
. ./run_trial.sh
for number in $(seq "$(wc -l <grid.txt)"); do
  run_trial "$number"
done
headstart results results --output results.csv --chart results.svg --metric val_accuracy
