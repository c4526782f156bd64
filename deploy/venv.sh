#!/bin/sh
# Make .venv from requirements.lock, or bring it up to date. Does nothing where it is; repairs one that was left half-made.
# PYTHON names the interpreter to use; without it the newest that fits is found.
set -eu
cd "$(dirname "$0")/.."
venv=.venv
made=$venv/hallpass.lock       # the lock that the environment holds, copied when all of it is there
interrupted=$venv/interrupted  # there while packages are being installed, and after that was interrupted

say() { printf '%s\n' "$*" >&2; }
fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
is_made() { [ ! -e "$interrupted" ] && cmp -s requirements.lock "$made" && fits "$venv/bin/python"; }

is_made && exit 0

python=
if [ -n "${PYTHON:-}" ]; then
    if ! fits "$PYTHON"; then
        say "PYTHON is $PYTHON, which is not a working Python 3.11 or newer: let it name another, or leave it out."
        exit 2
    fi
    python=$PYTHON
else
    for candidate in python3.13 python3.12 python3.11 python3; do
        if fits "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ]; then
    found=$(python3 -c 'import sys; print("this machine has %d.%d" % sys.version_info[:2])' 2>/dev/null || echo "this machine has none")
    say "Hallpass needs Python 3.11 or newer, and $found: install a newer one, or let PYTHON name its program."
    exit 2
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    say "The Python here ($python) lacks its venv module: install it (\`apt-get install python3-venv\` as root on Debian and Ubuntu)."
    exit 2
fi
if ! { true >>.venv.lock; } 2>/dev/null; then
    say "The folder $(pwd) can't be written: clone the project to a place of your own, or change its permissions."
    exit 2
fi
if command -v flock >/dev/null; then
    exec 9>>.venv.lock
    flock 9 # two commands started at once make one environment
    is_made && exit 0
fi

# An environment without our mark was made by hand or from an older lock: it is kept where it works.
if [ -e "$interrupted" ] || ! fits "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Making $venv with $("$python" --version 2>&1) ..."
    rm -rf "$venv"
    if ! "$python" -m venv "$venv"; then
        say "The virtual environment could not be made with $python; the lines above say why."
        exit 2
    fi
fi
true >"$interrupted"
say "Installing the packages of requirements.lock ..."
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; then
    say "The packages of requirements.lock could not be installed; the lines above say why. The same command tries again."
    exit 2
fi
cp requirements.lock "$made"
rm -f "$interrupted"
