"""The command `messaging`; it loads the modules of a subcommand when the subcommand runs."""

import gc
import sys
from importlib import import_module
from typing import Any

from adapters.cli.held_signals import end_without_traces, hold_signals
from adapters.cli.packages import SERVER, how_to_install, what_to_install
from adapters.cli.streams import make_stderr_lossy

if sys.argv[1:2] == ["serve"]:
    # Before the imports that follow, which take most of a second on a busy machine.
    hold_signals()
    end_without_traces()

try:
    import click
except ModuleNotFoundError:
    # The program is installed with and without extras.
    sys.stderr.write(f"Error: the program needs what an extra installs: {how_to_install(SERVER)}\n")
    sys.exit(2)  # as for a wrong setting: a restart will not help

COMMANDS = {
    "check": "adapters.checklist.command",
    "migrate": "adapters.cli.migrate",
    "serve": "adapters.cli.serve",
}
"""The module of each command, which defines it under the same name."""

COLLECT_AFTER = 20_000
"""The increase in objects that starts a garbage collection. With Python's default, 700, one starts every few
requests, and a hundred scan the permanent objects while a server loads."""


class PackageMissing(click.ClickException):
    """A package is not installed, so a restart will not help; the message says how to install it."""

    exit_code = click.UsageError.exit_code


class Commands(click.Group):
    """Commands by the names of their modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        try:
            command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        except ImportError as error:
            raise _install_hint(error, cmd_name) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        room = formatter.width - 6 - max(map(len, COMMANDS))  # as click has it
        rows = []
        for name in COMMANDS:
            try:
                command = self.get_command(ctx, name)
                text = "" if command is None else command.get_short_help_str(room)
            except PackageMissing as missing:
                text = f"({missing.message})"
            rows.append((name, text))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        gc.set_threshold(COLLECT_AFTER)
        make_stderr_lossy()  # otherwise an error that cannot be printed would change the exit status
        try:
            return super().invoke(ctx)
        except ImportError as error:  # of a package that only some settings, or a new database, need
            raise _install_hint(error, ctx.invoked_subcommand or "") from None


def _install_hint(error: ImportError, command: str) -> Exception:
    hint = what_to_install(error, command)
    return error if hint is None else PackageMissing(hint)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="messaging-core", prog_name="messaging")
def main() -> None:
    """A messaging backend: direct chats and groups over HTTP, live over WebSocket."""
