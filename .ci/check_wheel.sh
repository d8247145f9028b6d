#!/usr/bin/env bash
# Builds the wheel and the sdist, looks into both, and tries each in a fresh environment, away from the source tree.
#
#   .ci/check_wheel.sh            installs all dependencies anew (several GB)
#   .ci/check_wheel.sh --borrow   takes them from .venv, which `make test` sets up: one minute
#
# PYTHON=python3.13 chooses the interpreter; KEEP=dist keeps both files in that folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
case "${1:-}" in
"" | --borrow) ;;
*) echo "usage: $0 [--borrow]" >&2 && exit 2 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/away"

echo "== build"
"$python" -m venv "$work/builder"
"$work/builder/bin/python" -m pip install --quiet --disable-pip-version-check build
"$work/builder/bin/python" -m build --outdir "$work/dist" "$root" >"$work/build.log" || { cat "$work/build.log" && exit 1; }
rm -rf "$work/builder"
"$python" "$root/.ci/check_distributions.py" "$root" "$work/dist"

echo "== install"
"$python" -m venv "$work/clean"
options=()
if [ "${1:-}" = --borrow ]; then
    "$root/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$work/clean/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
    options=(--no-deps)
fi
for file in "$work"/dist/*.whl "$work"/dist/*.tar.gz; do
    echo "== try $(basename "$file")"
    "$work/clean/bin/python" -m pip install --quiet --disable-pip-version-check ${options[@]+"${options[@]}"} "$file"
    (cd "$work/away" && "$work/clean/bin/python" -I "$root/.ci/smoke_test.py")
    "$work/clean/bin/python" -m pip uninstall --quiet --yes mtvision
    options=(--no-deps) # they are there now
done

if [ -n "${KEEP:-}" ]; then
    mkdir -p "$KEEP" && cp "$work"/dist/* "$KEEP"
fi
echo "== wheel and sdist are good"
