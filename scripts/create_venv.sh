#!/bin/sh
# Makes the virtual environment at $1 with the newest fitting Python, or says what is missing.
# One that was built with optimizations goes first: the server does a fifth more with it.
# PYTHON=/path/to/python chooses one.
set -eu

venv=${1%/}
candidates=${PYTHON:-python3.13 python3.12 python3.11 python3 /usr/bin/python3}
found=
without_venv=
slow=" (built without optimizations, which makes a slow server: docs/deployment.md)"

# What a distribution builds is optimized, though Debian's configuration does not say so.
is_optimized='import sys, sysconfig
told = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
sys.exit(not told and sys.base_prefix != "/usr")'

# `--clear` would empty what it points to, whatever that is.
if [ -L "$venv" ]; then
    echo "error: $venv is a symbolic link; what it points to would be emptied. Remove the link: rm $venv" >&2
    exit 1
fi

# Each candidate is run, not looked up: a version manager's shim exists for versions that do not run.
for candidate in $candidates; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if ! "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        without_venv=${without_venv:-$candidate}
        continue
    fi
    found=${found:-$candidate}
    if "$candidate" -c "$is_optimized"; then
        found=$candidate
        slow=
        break
    fi
done

if [ -n "$found" ]; then
    echo "Creating $venv with $("$found" --version)$slow"
    exec "$found" -m venv --clear "$venv"
fi

if [ -n "$without_venv" ]; then
    version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "error: $without_venv (Python $version) cannot make virtual environments: its venv module is missing." >&2
    echo "       On Debian and Ubuntu: apt-get install python$version-venv" >&2
    exit 1
fi

echo "error: Python 3.11 or newer is needed. Tried:" >&2
for candidate in $candidates; do
    version=$("$candidate" --version 2>/dev/null) || version="does not run here"
    echo "         $candidate: $version" >&2
done
echo "       Install one, or name it: make PYTHON=/path/to/python3 …" >&2
exit 1
