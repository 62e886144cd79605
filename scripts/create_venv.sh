#!/bin/sh
# Creates a virtual environment at $1 with the newest suitable Python, or prints what is missing.
# Prefers a Python that was built with optimizations: the server then handles a fifth more requests.
# PYTHON=/path/to/python selects another one.
set -eu

venv=${1%/}
candidates=${PYTHON:-python3.13 python3.12 python3.11 python3 /usr/bin/python3}
found=
without_venv=
slow=" (built without optimizations, which makes a slow server: docs/deployment.md)"

# A distribution's Python in /usr is optimized, although Debian's CONFIG_ARGS do not have the option.
is_optimized='import sys, sysconfig
has_option = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
sys.exit(not has_option and sys.base_prefix != "/usr")'

# `--clear` would empty the directory that a symbolic link points to.
if [ -L "$venv" ]; then
    echo "error: $venv is a symbolic link; its target would be emptied. Remove the link: rm $venv" >&2
    exit 1
fi

# Run each candidate: a version manager has commands for versions that are not installed.
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
    echo "error: $without_venv (Python $version) cannot create virtual environments: its venv module is missing." >&2
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
