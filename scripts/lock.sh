#!/usr/bin/env bash
# Writes requirements.lock: the exact versions of everything that pyproject.toml asks for, development tools included.
# Holds for all Pythons that pyproject.toml allows; a line may carry a condition on the Python's version.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT TOOLS=$ROOT/.cache/lock-tools

cd "$ROOT"
if ! [ -x "$TOOLS/bin/uv" ]; then
  mkdir -p "$(dirname "$TOOLS")"
  "${PYTHON:-python3}" -m venv --clear "$TOOLS"
  "$TOOLS/bin/python" -m pip install --quiet --disable-pip-version-check uv
fi
# Versions that still fit are kept unless --upgrade is given.
"$TOOLS/bin/uv" pip compile --quiet --universal --python-version 3.11 --extra dev \
  --no-header --no-annotate --no-emit-index-url "$@" --output-file requirements.lock pyproject.toml
# Taskvisor runs on Linux only.
sed -i "/sys_platform == 'win32'/d" requirements.lock
