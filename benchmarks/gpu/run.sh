#!/usr/bin/env bash
# Runs what there is to test and to measure on one GPU, part after part, each with a limit of its own.
#
#     [OUT=DIR] benchmarks/gpu/run.sh [--dry] [--minutes 8] [--only PART]...
#
# Parts: environment tests step_cost features compiled planning report; and plan, which needs no GPU, if --only or --dry
# asks. --dry leaves out planning unless --only asks.
# --dry does all of it on the CPU in the least sizes. PYTHON (default: python3) runs it, with packed/site.tar.xz on
# its path if pack.sh has made that. README.md beside this file tells what OUT holds.
set -u -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${OUT:-$here/out}" && cd "${OUT:-$here/out}" && pwd) || exit 1
cd "$here/../.." || exit 1
python=${PYTHON:-python3}
device=cuda minutes=8 patience=1 only=() dry=()

while [ $# -gt 0 ]; do
  case $1 in
    --dry) dry=(--dry) device=cpu minutes=80 patience=10; shift ;; # a busy CPU is no failure
    --minutes) minutes=$2; shift 2 ;;
    --only) only+=("$2"); shift 2 ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
if [ ${#only[@]} -eq 0 ]; then
  rm -f "$out/parts.jsonl" "$out/run.log"
  only=(environment tests step_cost features compiled report)
  if [ $device = cpu ]; then only+=(plan); else only+=(planning); fi
fi
deadline=$((SECONDS + minutes * 60))

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
export HF_HOME=$scratch/hub HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} LLM_JEPA_TEST_DEVICE=$device PYTHONPATH=$PWD
pack=${PACK:-$here/packed/site.tar.xz} site=()
if [ -f "$pack" ]; then
  packed=$scratch/site-packages # by this name dill tells a library, of which it pickles no more than the name
  "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="data")' \
    "$pack" "$packed" || exit 1
  export PYTHONPATH=$packed:$PWD
  site=(--site "$packed")
fi

# part NAME LIMIT_SECONDS RESULT COMMAND...: run it if it is wanted, and note its status and seconds.
part() {
  local name=$1 limit=$(($2 * patience)) begin=$SECONDS left=$((deadline - SECONDS)) status
  [[ " ${only[*]} " == *" $name "* ]] || return 0
  rm -rf "$3"
  shift 3
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -le 0 ]; then
    status=124
  else
    echo "=== $name, at most $limit s" | tee -a "$out/run.log"
    timeout --signal=INT --kill-after=10 "$limit" "$@" 2>&1 | tee -a "$out/run.log"
    status=${PIPESTATUS[0]}
  fi
  echo "{\"part\": \"$name\", \"status\": $status, \"seconds\": $((SECONDS - begin))}" >>"$out/parts.jsonl"
  [ "$status" -eq 0 ] || failed=1
}

tests=(
  tests/layouts/test_attention_gpu.py
  tests/training/test_devices.py
  tests/test_golden.py
  tests/layouts/test_equivalence.py::test_both_layouts_equal_separate_forwards
  tests/layouts/test_equivalence.py::test_rows_equal_separate_forwards_where_packed_is_refused
  tests/test_trainer.py::test_weight_zero_is_trls_trainer_bit_for_bit_over_ten_steps
  tests/training/test_saving.py::test_a_resumed_run_ends_with_the_same_weights_bit_for_bit
  tests/training/test_saving.py::test_a_resumed_run_draws_the_spans_that_it_would_have_drawn
  'tests/training/test_quantised.py::test_both_losses_fall_and_evaluations_in_between_change_nothing[nf4]'
  'tests/training/test_quantised.py::test_a_step_is_that_of_the_dequantised_model[nf4]'
  tests/training/test_quantised.py::test_the_optimizer_has_paged_states_of_8_bits
)
# One compile thread: workers that hold a pool of compile processes were seen to hang at their end.
pytest=(env TORCHINDUCTOR_COMPILE_THREADS=1 "$python" -m pytest -q -p no:cacheprovider --junitxml "$out/tests.xml")
if [ $device = cpu ]; then
  pytest+=(-k 'llama or tube') # all of them are part of the test-suite
elif "$python" -c 'import xdist' 2>/dev/null; then
  pytest+=(-n 6)
fi

failed=0
measure() { part "$1" "$2" "$out/$1.json" "$python" "$here/measure.py" "$1" "$out/$1.json" "${dry[@]}"; }
part environment 45 "$out/environment.json" "$python" "$here/environment.py" "$out/environment.json" "${site[@]}"
part tests 150 "$out/tests.xml" "${pytest[@]}" "${tests[@]}"
measure step_cost 180
measure features 60
measure compiled 70
left=$((deadline - SECONDS - 45)) # it ends by itself, and keeps its cells
if [ $left -gt 240 ]; then # in less no cell ends
  part planning 3600 "$out/planning" "$python" "$here/planning.py" "$out/planning" --seconds $left "${dry[@]}"
fi
planned=$out/planned_memory.json
part plan 300 "$planned" "$python" "$here/planned_memory.py" "$planned" "${dry[@]}"
deadline=$((SECONDS + 20 * patience)) # the tables are written whatever has become of the rest
part report 15 "$out/report.md" "$python" "$here/report.py" "$out"
exit $failed
