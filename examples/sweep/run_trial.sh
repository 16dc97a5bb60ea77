# Defines `run_trial NUMBER`, which runs the trial of one line of the grid, counted from 1. The other scripts of this
# folder use it. The name of a trial is a hash of its parameters, so changed parameters make a new trial. A finished
# trial is not run again. The notebook is written when the trial has ended, that of a failed trial as `failed-NAME`.
run_trial() {
  local name parameters first status
  parameters=$(sed -n "$1p" grid.txt)
  [ "$1" -le "$(grep -c '' grid.txt)" ] || { echo "grid.txt has no line $1" >&2; return 1; }
  [ -n "$parameters" ] || { echo "line $1 is empty"; return 0; }
  first=$(grep -nxFm1 -e "$parameters" grid.txt)
  [ "${first%%:*}" = "$1" ] || { echo "line $1 is the same as line ${first%%:*}"; return 0; }
  name=trial-$(printf %s "$parameters" | sha256sum | cut -c1-8)
  mkdir -p results
  [ ! -e "results/$name.ipynb" ] || { echo "$name is finished"; return 0; }
  # The parameters are separate words.
  # shellcheck disable=SC2086
  if headstart run trial.ipynb --output "results/.$name.ipynb" -p "trial=$name" $parameters; then
    mv "results/.$name.ipynb" "results/$name.ipynb"
    rm -f "results/failed-$name.ipynb"
  else
    status=$?
    echo "$name failed: $parameters" >&2
    # The notebook is missing if the trial could not start.
    [ ! -e "results/.$name.ipynb" ] || mv "results/.$name.ipynb" "results/failed-$name.ipynb"
    return "$status"
  fi
}
