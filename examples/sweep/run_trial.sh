# Defines `run_trial NUMBER`, which runs one trial of the grid, counted from 1. The other scripts of this folder use it.
# A finished trial is not run again. The notebook is written when the trial has ended.
run_trial() {
  local name="trial-$1" parameters
  parameters=$(sed -n "$1p" grid.txt)
  [ -n "$parameters" ] || { echo "grid.txt has no line $1" >&2; return 1; }
  mkdir -p results
  [ ! -e "results/$name.ipynb" ] || { echo "$name is finished"; return 0; }
  # The parameters are separate words.
  # shellcheck disable=SC2086
  headstart run trial.ipynb --output "results/.$name.ipynb" -p "trial=$name" $parameters
  mv "results/.$name.ipynb" "results/$name.ipynb"
}
