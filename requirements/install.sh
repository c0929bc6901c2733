#!/bin/sh
# Create $VENV with $PYTHON, and install cgnl_mm with $EXTRAS in the tested
# versions (`make` calls it).
set -eu

fail() {
    echo "error: $*" >&2
    exit 1
}

python=$VENV/bin/python
if ! "$python" -m pip --version >/dev/null 2>&1; then
    command -v "$PYTHON" >/dev/null ||
        fail "$PYTHON not found: install Python 3.11, or make PYTHON=..."
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$("$PYTHON" --version) is too old: Python >= 3.10 is needed," \
            "tested with 3.11 (make PYTHON=python3.11)"
    "$PYTHON" -m venv "$VENV" ||
        fail "no virtual environment in $VENV. On Debian or Ubuntu:" \
            "sudo apt install python3-venv. Or use an environment of your" \
            "own: make VENV=/path/to/it"
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$VENV has $("$python" --version), but >= 3.10 is needed:" \
        "remove it, or make VENV=another"

# the full set is for 3.11 and later: some of it no longer supports 3.10
constraints=requirements/constraints.txt
if "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then
    constraints=$VENV/core.txt
    sed '/^# as resolved/q' requirements/constraints.txt >"$constraints"
fi

echo "Installing the tested versions into $VENV: several gigabytes, once."
# mmcv-lite would overwrite a compiled mmcv
extras=$EXTRAS,lite
if "$python" -m pip show --quiet mmcv 2>/dev/null; then
    extras=$EXTRAS
fi
"$python" -m pip install --disable-pip-version-check \
    --constraint "$constraints" --editable ".[$extras]" ||
    fail "the installation did not finish (see above). It can be repeated:" \
        "what was downloaded is kept"

# opencv-python needs libraries that a bare system may lack
"$python" -c 'import cv2' ||
    fail "OpenCV does not import. On Debian or Ubuntu:" \
        "sudo apt install libgl1 libglib2.0-0"
