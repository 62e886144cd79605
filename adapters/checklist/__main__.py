"""`python -m adapters.checklist URL`: the command, where only the extra `check` is installed."""

import sys

try:
    from adapters.checklist.command import check
except ModuleNotFoundError as error:
    sys.stderr.write(
        f"Error: the check needs the package {error.name}: pip install 'messaging-core[check]'\n"
    )
    sys.exit(2)  # the same status as for any check that cannot run

check(prog_name="python -m adapters.checklist")
