#!/usr/bin/env bash
# Packs what a GPU machine without a package registry lacks into benchmarks/gpu/packed/site.tar.xz.
#
#     benchmarks/gpu/pack.sh [--python 3.12] [--output DIR]
#
# PYTHON (default: python3) runs pip; the wheels are those of Linux on x86-64 for the Python that is named.
set -u -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
version=3.12
output=$here/packed

while [ $# -gt 0 ]; do
  case $1 in
    --python) version=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

wheels=$(mktemp -d) || exit 1
trap 'rm -rf "$wheels"' EXIT
platforms=()
for glibc in 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
for alias in 2014 2010 1; do platforms+=(--platform "manylinux${alias}_x86_64"); done

"$python" -m pip download -qqq --no-deps --only-binary=:all: --implementation cp --python-version "$version" \
  "${platforms[@]}" --dest "$wheels" --requirement "$here/requirements.txt" || exit 1
# The project's own metadata, in which runs look up its version; its code is the checkout's.
"$python" -m pip wheel -qqq --no-deps --wheel-dir "$wheels" "$here/../.." || exit 1
mkdir -p "$output" && "$python" "$here/pack_wheels.py" "$wheels" "$output/site.tar.xz"
