"""`messaging check URL`: parses the options, prints the report, and exits with a status."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from adapters.checklist.phrases import LANGUAGES, Language, language_of

if TYPE_CHECKING:
    from adapters.checklist.running import CheckResult

FORMAT_NAMES = ("text", "json", "markdown", "junit")
COULD_NOT_RUN = 2


class CheckCouldNotRun(click.ClickException):
    """The check could not run; the message says why."""

    exit_code = COULD_NOT_RUN


@click.command()
@click.argument("url")
@click.option(
    "--lang",
    "language",
    type=click.Choice(LANGUAGES),
    help="Language of the report.  [default: the language of LANG]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMAT_NAMES),
    default="text",
    show_default=True,
    help="Form of the report.",
)
@click.option(
    "--output",
    type=click.File("wb", lazy=False),
    help="File to write the report to.  [default: standard output]",
)
@click.option("--only", default="", metavar="ROWS", help="Rows to check, such as C3,P2.  [default: all]")
@click.option(
    "--timeout",
    type=click.FloatRange(0.05, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an event may take; a response may take five times as long.",
)
@click.option(
    "--origin",
    default="http://localhost:5173",
    show_default=True,
    help="Origin of the page that the check stands for.",
)
def check(  # noqa: PLR0917 - click passes each option by its name
    url: str,
    language: Language | None,
    form: str,
    output: BinaryIO | None,
    only: str,
    timeout: float,
    origin: str,
) -> None:
    """Check a server against the frontend's checklist, and report what works and what does not.

    URL is the server's address, such as http://localhost:8000, with or without /api/v1. The check registers
    a few users of its own there, with new e-mail addresses at test.com.

    Exit status: 0 if every row holds, 1 if one fails, 2 if the check could not run.
    """
    chosen = language or _locale_language()
    try:
        result = _result(url, chosen, only=only, timeout=timeout, origin=origin)
    except KeyboardInterrupt:
        raise CheckCouldNotRun("interrupted") from None
    from adapters.checklist.report import FORMATS, summary  # noqa: PLC0415 - see _result

    report = FORMATS[form](result, chosen)
    stream: BinaryIO = output or sys.stdout.buffer
    stream.write(report.encode())
    stream.flush()
    if output is not None:
        click.echo(summary(result).into(chosen), err=True)
    sys.exit(0 if result.holds else 1)


def _locale_language() -> Language:
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    return language_of(next((os.environ[name] for name in names if os.environ.get(name)), ""))


def _result(url: str, language: Language, *, only: str, **options: Any) -> "CheckResult":
    # Imported here, because `messaging serve` is the same program and needs neither HTTP client nor rows.
    try:
        import trio  # noqa: PLC0415

        from adapters.checklist import running  # noqa: PLC0415
        from adapters.checklist.progress import ProgressLine  # noqa: PLC0415
    except ImportError as error:
        message = f"the check needs the package {error.name}: pip install 'messaging-core[check]'"
        raise CheckCouldNotRun(message) from None
    progress = ProgressLine(sys.stderr, language)
    try:
        plan = running.CheckPlan(running.base_of(url), _row_ids(only, running.ORDER), **options)
        return trio.run(running.run_check, plan, progress if sys.stderr.isatty() else None)
    except running.CannotRun as error:
        raise CheckCouldNotRun(error.reason.into(language)) from None
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        raise KeyboardInterrupt from None
    finally:
        progress.wipe()


def _row_ids(only: str, known: Sequence[str]) -> tuple[str, ...]:
    chosen = [name.strip().upper() for name in only.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise click.UsageError(f"--only: there is no row {', '.join(unknown)}; rows are {', '.join(known)}")
    return tuple(chosen)
