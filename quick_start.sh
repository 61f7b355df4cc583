#!/usr/bin/env bash
# Sets up .venv and runs a demonstration; `./quick_start.sh test` runs the tests instead. Safe to run again.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

fail() { echo "quick_start.sh: $*" >&2; exit 1; }

usage() { echo "usage: ./quick_start.sh [test [PYTEST ARGUMENTS…]]"; }

# Whether an interpreter is there, and from 3.11 to 3.13.
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

# The first interpreter that fits; the newest is tried first.
find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

make_venv() {
    if fits .venv/bin/python; then return; fi
    [ -z "${PYTHON:-}" ] || fits "$PYTHON" || fail "PYTHON=$PYTHON is no Python from 3.11 to 3.13: name another by PYTHON=/path/to/python3, or unset it"
    local free_mb
    free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
    [ "$free_mb" -ge 4000 ] || fail "no space: TensorFlow and the rest need about 4 GB, $PWD has $free_mb MB free"
    rm -rf .venv
    if command -v uv >/dev/null; then
        echo "Making .venv with uv" >&2
        uv venv --quiet --python "${PYTHON:->=3.11,<3.14}" .venv || fail "uv could not make .venv; the lines above say why (a Python from 3.11 to 3.13 can be named by PYTHON=/path/to/python3)"
    else
        local python
        python=${PYTHON:-$(find_python)} || fail "no Python from 3.11 to 3.13 was found: install one (for instance: apt install python3.11 python3.11-venv), or name one by PYTHON=/path/to/python3"
        echo "Making .venv with $("$python" --version)" >&2
        "$python" -m venv .venv || { rm -rf .venv; fail "$python has no venv module: install it (for instance: apt install python3-venv)"; }
    fi
}

# Installs a lock file unless exactly that was installed before.
install() {
    local lock=$1 stamp=.venv/installed-$1
    if cmp -s "$lock" "$stamp"; then return; fi
    echo "Installing what $lock names (TensorFlow is large: this takes some minutes)" >&2
    if command -v uv >/dev/null; then
        VIRTUAL_ENV=$PWD/.venv uv pip install --quiet -r "$lock" || fail "the installation failed; the lines above say why"
        VIRTUAL_ENV=$PWD/.venv uv pip install --quiet --no-deps --no-build-isolation -e . || fail "the project itself could not be installed; the lines above say why"
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$lock" || fail "the installation failed; the lines above say why"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . || fail "the project itself could not be installed; the lines above say why"
    fi
    cp "$lock" "$stamp"
}

case "${1:-}" in
"")
    make_venv
    install requirements.txt
    echo "\`source .venv/bin/activate\` gives you fedtui, flwr and the other commands" >&2
    exec .venv/bin/fedtui demo
    ;;
test)
    shift
    make_venv
    install requirements-dev.txt
    exec .venv/bin/python -m pytest "$@"
    ;;
-h | --help)
    usage
    ;;
*)
    usage >&2
    exit 2
    ;;
esac
