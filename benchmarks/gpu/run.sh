#!/usr/bin/env bash
# Builds openmmkstep on a machine with an NVIDIA GPU, runs the CUDA tests and the benchmarks, and leaves JSON, logs and a plot.
#
#   benchmarks/gpu/run.sh OUT [WHEELS]
#
# No internet is needed: WHEELS is a folder with what the machine lacks (see docs/gpu.md), numpy, torch and cmake come with
# it. Set PLATFORM=OpenCL to try the script where there is no GPU, and ATOMS and SECONDS_EACH to make it shorter.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
wheels=${2:-}
platform=${PLATFORM:-CUDA}
atoms=${ATOMS:-25000}
cd "$(dirname "$0")/../.."

venv=${VENV:-$out/venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv --system-site-packages "$venv"
    for wheel in "$wheels"/*.whl; do
        case $(basename "$wheel") in
            # libxtb is used as a library: its Python package may be for another version of Python.
            xtb-*) "$venv/bin/python" -m zipfile -e "$wheel" "$out/xtb" ;;
            *) "$venv/bin/pip" install --no-index --no-deps "$wheel" ;;
        esac
    done
fi
python=$venv/bin/python
if [ -d "$out/xtb" ]; then
    OPENMMKSTEP_LIBXTB=$(ls "$out"/xtb/xtb.libs/libxtb-*.so* | head -1)
    export OPENMMKSTEP_LIBXTB
fi
# NVIDIA's libraries that come with torch, which OpenMM's CUDA platform needs too.
LD_LIBRARY_PATH=$("$python" -c 'import glob, site, sysconfig
folders = {sysconfig.get_paths()["purelib"], *site.getsitepackages()}
print(":".join(p for f in sorted(folders) for p in sorted(glob.glob(f + "/nvidia/*/lib"))))'):${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH

echo "== Building"
# Build folders of the source tree are left alone.
PATH="$venv/bin:$PATH" "$venv/bin/pip" install --no-build-isolation --no-deps -v --config-settings=build-dir="$out/build" \
    --config-settings=cmake.define.BUILD_TESTING=ON --config-settings=cmake.define.OPENMMKSTEP_BUILD_${platform^^}=ON . > "$out/build.log" 2>&1 ||
    { tail -n 40 "$out/build.log"; exit 1; }
"$python" -m openmmkstep | tee "$out/installation.txt"

export OPENMMKSTEP_REQUIRE=$platform
failed=0
echo "== Tests"
ctest --test-dir "$out/build" --output-on-failure --no-tests=error -L "$platform" > "$out/ctest.log" 2>&1 || failed=1
tail -n 30 "$out/ctest.log"
"$python" -m pytest -q tests/python/test_gpu_platforms.py -k "$platform" > "$out/pytest.log" 2>&1 || failed=1
tail -n 5 "$out/pytest.log"

echo "== Benchmarks"
common=(--platform "$platform" --atoms "$atoms")
"$python" benchmarks/gpu/overhead.py "${common[@]}" --steps "${STEPS:-2048}" --output "$out/overhead.json" || failed=1
"$python" benchmarks/gpu/production.py "${common[@]}" --seconds "${SECONDS_EACH:-20}" --output "$out/production.json" || failed=1
"$python" benchmarks/gpu/create_destroy.py --platform "$platform" --cycles "${CYCLES:-10000}" --output "$out/create_destroy.json" || failed=1
"$python" benchmarks/gpu/plot.py "$out" || failed=1
exit $failed
