#!/usr/bin/env bash
# Checks and measures everything on this machine's GPU, in one call, without a network and without changing its Python:
#
#     bench/gpu_all.sh [PART ...]          kernels rungs parity ops conv step, unless some are named; or sanitizer
#
#     OUT=DIR        where the JSON files and gpu_all.log go (default: bench/results)
#     TIME=SECONDS   for everything (default: 530); the parts share what is left
#     PYTHON=PROGRAM with numpy, numba, numba-cuda, CuPy, pytest and, as the peer, torch (default: python3)
#
# `sanitizer` takes minutes: every operation's small cases under compute-sanitizer's memcheck and racecheck, where that
# program is found.
#
# A part that fails does not stop the others; the end says so, and the exit status is 1.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
out=${OUT:-$root/bench/results}
limit=${TIME:-530}
parts=(kernels rungs parity ops conv step)
declare -A weight=([kernels]=100 [rungs]=50 [parity]=160 [ops]=105 [conv]=95 [step]=110 [sanitizer]=400)

(($# == 0)) || parts=("$@")
for part in "${parts[@]}"; do
    if [[ ! -v weight[$part] ]]; then
        echo "gpu_all.sh: unknown part '$part', expected some of: kernels rungs parity ops conv step sanitizer" >&2
        exit 2
    fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
log=$out/gpu_all.log
: >"$log" || exit 2

# nnk goes into a folder of its own: by pip, from a copy since that writes beside the sources, or where it cannot build
# nnk, by links in the same layout.
site=$work/site
mkdir "$work/nnk" && cp -r "$root"/{pyproject.toml,README.md,LICENSE,nnk,kernels} "$work/nnk"
if "$python" -m pip install --quiet --no-deps --no-build-isolation --target "$site" "$work/nnk" >>"$log" 2>&1; then
    installed="nnk installed by pip"
else
    rm -rf "$site" && mkdir -p "$site/nnk"
    for entry in "$root"/nnk/*; do
        [[ $(basename "$entry") == kernels ]] || ln -s "$entry" "$site/nnk/"
    done
    ln -s "$root/kernels" "$site/nnk/kernels"
    installed="nnk linked, as pip could not build it"
fi
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

# numba-cuda looks for NVVM among pip's packages and where these say, but not beside an nvcc.
if [[ -z ${CUDA_HOME-}${CUDA_PATH-} ]]; then
    compiler=$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")
    [[ -d ${compiler%/bin/nvcc}/nvvm ]] && export CUDA_HOME=${compiler%/bin/nvcc}
fi

if ! "$python" "$root/bench/gpu_machine.py" 2>&1 | tee -a "$log"; then
    echo "gpu_all.sh: nothing was measured" >&2
    exit 1
fi
echo "$installed"

# Tests on the GPU; not from the checkout, where Python would find an nnk without kernels. By some processes where
# pytest-xdist is, which replaces those that lose the GPU or, where pytest-timeout is, hang.
check() {
    local options=()
    "$python" -c "import xdist" 2>/dev/null && options+=(-n 6 --max-worker-restart 100)
    "$python" -c "import pytest_timeout" 2>/dev/null && options+=(--timeout 100 --timeout-method thread)
    (cd "$work" && "$python" -m pytest -p no:cacheprovider --tb=short -c "$root/pyproject.toml" --rootdir "$root" \
        ${options[@]+"${options[@]}"} "$@")
}

# The command of a part that may take so many seconds. Benches need some of them to start and to measure the limits.
run() {
    local bench=$root/bench tests=$root/tests/kernels/cuda seconds=$2
    case $1 in
    kernels)
        cd "$work" && "$python" -m nnk warmup --cuda --dtype float32 --dtype float16 --dtype bfloat16 | tail -n 3
        return "${PIPESTATUS[0]}"
        ;;
    rungs) check "$tests"/{test_bulk_copies,test_rungs,test_first_layer}.py ;;
    parity)
        # What proves compiler and host rather than the GPU is left to CI.
        check "$tests" "$root/tests/cuda/test_cuda_device.py" \
            "--ignore=$tests/test_"{resources,launch,simulator,transfers,bulk_copies,rungs}.py
        ;;
    sanitizer)
        local checker tool
        checker=$(PATH=$PATH:${CUDA_PATH:-/usr/local/cuda}/bin command -v compute-sanitizer) || {
            echo "compute-sanitizer is not found, neither in PATH nor below CUDA_PATH"
            return 77
        }
        for tool in memcheck racecheck; do
            "$checker" --tool "$tool" --error-exitcode 1 "$python" "$bench/gpu_sanitizer.py" || return
        done
        ;;
    *) "$python" "$bench/gpu_$1.py" --seconds $((seconds > 40 ? seconds - 20 : seconds / 2)) --out "$out/gpu_$1.json" ;;
    esac
}
export -f check run
export python root work out

failed=()
for i in "${!parts[@]}"; do
    part=${parts[i]} rest=0 began=$SECONDS
    for other in "${parts[@]:i}"; do ((rest += weight[$other])); done
    seconds=$(((limit - SECONDS) * weight[$part] / rest))
    ((seconds > 0)) || seconds=1
    echo "== $part" >>"$log"
    start=$(wc -l <"$log")
    rm -f "$out/gpu_$part.json"  # of an earlier run
    timeout --signal=INT --kill-after=10 "$seconds" bash -c 'run "$@"' run "$part" "$seconds" >>"$log" 2>&1
    status=$?
    took="in $((SECONDS - began)) of $seconds s"
    if ((status == 0)); then
        echo "$part: done $took"
    elif ((status == 77)); then
        echo "$part: skipped, $(tail -n 1 "$log")"
    else
        failed+=("$part")
        ((status == 124 || status == 137)) && took="stopped after $seconds s"
        echo "$part: FAILED (status $status), $took; the end of its output:"
        tail -n +"$((start + 1))" "$log" | tail -n 25 | cut -c1-300
    fi
done

if compgen -G "$out/gpu_*.json" >/dev/null; then
    echo
    "$python" "$root/bench/gpu_report.py" "$out" 2>&1 | tee -a "$log" || failed+=(report)
fi
echo
echo "all output: $log"
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}"
    exit 1
fi
