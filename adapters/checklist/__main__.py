"""`python -m adapters.checklist URL`: the command, where only the extra `check` is installed."""

from adapters.checklist.command import check

check(prog_name="python -m adapters.checklist")
