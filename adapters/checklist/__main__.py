"""`python -m adapters.checklist URL`: the command, where only the extra `check` is installed."""

import sys

try:
    from adapters.checklist.command import check
except ModuleNotFoundError as error:
    told = f"Error: the check needs the package {error.name}: pip install 'messaging-core[check]'\n"
    sys.stderr.write(told)
    sys.exit(2)  # as whenever the check cannot be run

check(prog_name="python -m adapters.checklist")
