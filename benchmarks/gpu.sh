#!/bin/bash
# All that a GPU is wanted for, in at most nine minutes: bash benchmarks/gpu.sh [--dry] [DIR [STEP...]]
#
# The steps (all): tests of kernels; depthwise kernels; throughput of classifiers beside Swin's; backbone beside its peers
# in bfloat16. What they print stands in DIR/gpu-*.txt (default: benchmarks/results), their JSON beside it, and their
# tables at the end of the output. A step that fails or takes too long stops no other, and is named last; the exit code
# is 1 then. --dry runs the smallest form of each step on a CPU, its kernels interpreted, so that nothing fails on a GPU
# for a reason that a CPU shows.
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python} dry=
if [ "$1" = --dry ]; then
    dry=1
    shift
fi
out=${1:-benchmarks/results}
mkdir -p "$out" || exit 2
if [ -z "$dry" ] && ! "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then
    echo 'gpu.sh: error: torch finds no GPU here; --dry runs without one' >&2
    exit 2
fi
shift
all='tests depthwise throughput backbone'
for name in "$@"; do
    if [[ " $all " != *" $name "* ]]; then
        echo "gpu.sh: error: there is no step $name, expected some of $all" >&2
        exit 2
    fi
done
wanted=" ${*:-$all} " names=() failed=()

# step NAME SECONDS COMMAND...: run a command for so many seconds at most.
step() {
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    [[ $wanted == *" $name "* ]] || return
    echo "== $name, at most $seconds s: $*"
    timeout -k 5 "$seconds" "$@" > "$out/gpu-$name.txt" 2> "$out/gpu-$name.log"
    local code=$?
    names+=("$name")
    if [ $code -ne 0 ]; then
        failed+=("$name (exit code $code)")
        tail -n 15 "$out/gpu-$name.log"
    fi
    echo "   exit code $code after $((SECONDS - start)) s"
}

if [ -n "$dry" ]; then
    step tests 300 "$python" -m pytest -q --collect-only tests/models/ops
    step depthwise 300 env TRITON_INTERPRET=1 "$python" benchmarks/depthwise.py --quick --out "$out"
    step throughput 300 "$python" benchmarks/throughput.py --quick --out "$out"
    step backbone 300 "$python" benchmarks/backbone.py --quick --sizes 64x64 --precisions bfloat16 --out "$out"
else
    step tests 120 "$python" -m pytest -q -x tests/models/ops -k 'gpu or elementwise'
    step depthwise 60 "$python" benchmarks/depthwise.py --out "$out"
    step throughput 120 "$python" benchmarks/throughput.py --out "$out"
    step backbone 230 "$python" benchmarks/backbone.py --sizes 224x224 800x1280 --precisions bfloat16 --out "$out"
fi

for name in "${names[@]}"; do
    printf '\n===== %s\n' "$name"
    if [ "$name" = tests ]; then tail -n 3 "$out/gpu-tests.txt"; else cat "$out/gpu-$name.txt"; fi
done
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed[*]}"
    exit 1
fi
