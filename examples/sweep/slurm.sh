#!/usr/bin/env bash
# One task for each line of grid.txt: sbatch --array=1-$(grep -c '' grid.txt) slurm.sh
#SBATCH --job-name=sweep
#SBATCH --cpus-per-task=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A-%a.txt
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?start this script with sbatch}"
. ./run_trial.sh
run_trial "$SLURM_ARRAY_TASK_ID"
