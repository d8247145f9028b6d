#!/usr/bin/env bash
# Installs the oldest versions that pyproject.toml admits in a fresh environment (several GB) and runs the tests there that
# depend on them most: parts, models, losses and metrics against their oracles, data, training, inference and studies.
#
#   .ci/check_oldest.sh                those tests
#   .ci/check_oldest.sh tests/losses_det -x   these, with options of pytest
#
# Oldest is also the interpreter: PYTHON=python3.11 by default. ENVIRONMENT=folder keeps the environment there, and uses it again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3.11}
tests=(tests/core tests/ops tests/backbones tests/necks tests/heads_seg tests/heads_det tests/losses_seg tests/losses_det
    tests/assigners tests/tasks_seg tests/tasks_det tests/tasks_more tests/data tests/inference tests/hub
    tests/training/test_trainer.py tests/study/test_study_commands.py)
[ $# -gt 0 ] && tests=("$@")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
environment=${ENVIRONMENT:-$work/oldest}
if [ ! -d "$environment" ]; then
    "$python" .ci/oldest_versions.py dev >"$work/constraints.txt"
    "$python" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$work/constraints.txt" --editable ".[dev]"
fi
"$environment/bin/python" -m pip freeze --exclude-editable | grep -iE "^(torch|torchvision|timm|torchmetrics|numpy|pydantic)=="
"$environment/bin/python" -m pytest --quiet --numprocesses="${PROCESSES:-auto}" -p no:cacheprovider "${tests[@]}"
