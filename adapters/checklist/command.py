"""`messaging check URL`: options in, the report and an exit status out."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from adapters.checklist.words import LANGUAGES, Language, language_of

if TYPE_CHECKING:
    from adapters.checklist.running import Result

FORMAT_NAMES = ("text", "json", "markdown", "junit")
COULD_NOT_RUN = 2


class CheckCouldNotRun(click.ClickException):
    """Nothing was checked; the message says why."""

    exit_code = COULD_NOT_RUN


@click.command()
@click.argument("url")
@click.option(
    "--lang",
    "language",
    type=click.Choice(LANGUAGES),
    help="Language of the report.  [default: that of LANG]",
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
    help="A file for the report.  [default: standard output]",
)
@click.option("--only", default="", metavar="ROWS", help="Rows to check, such as C3,P2.  [default: all]")
@click.option(
    "--timeout",
    type=click.FloatRange(0.05, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an event may take; an answer may take five times that.",
)
@click.option(
    "--origin",
    default="http://localhost:5173",
    show_default=True,
    help="Origin of the page that the check stands for.",
)
def check(  # noqa: PLR0917 - click hands over each option by its name
    url: str,
    language: Language | None,
    form: str,
    output: BinaryIO | None,
    only: str,
    timeout: float,
    origin: str,
) -> None:
    """Check a server against the frontend's checklist, and print what works and what does not.

    URL is where the server is, such as http://localhost:8000, with or without /api/v1. The check registers
    a few users of its own there, under addresses at test.com that nobody has.

    Exit status: 0 if every row holds, 1 if one fails, 2 if the check could not be run.
    """
    spoken = language or _spoken()
    try:
        result = _result(url, spoken, only=only, timeout=timeout, origin=origin)
    except KeyboardInterrupt:
        raise CheckCouldNotRun("interrupted before the end") from None
    from adapters.checklist.report import FORMATS, summary  # noqa: PLC0415 - see _result

    report = FORMATS[form](result, spoken)
    stream: BinaryIO = output or sys.stdout.buffer
    stream.write(report.encode())
    stream.flush()
    if output is not None:
        click.echo(summary(result).into(spoken), err=True)
    sys.exit(0 if result.holds else 1)


def _spoken() -> Language:
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    return language_of(next((os.environ[name] for name in names if os.environ.get(name)), ""))


def _result(url: str, language: Language, *, only: str, **options: Any) -> "Result":
    # Imported here: `messaging serve` shares this program and needs neither an HTTP client nor the rows.
    try:
        import trio  # noqa: PLC0415

        from adapters.checklist import running  # noqa: PLC0415
        from adapters.checklist.progress import ProgressLine  # noqa: PLC0415
    except ImportError as error:
        told = f"the check needs the package {error.name}: pip install 'messaging-core[check]'"
        raise CheckCouldNotRun(told) from None
    progress = ProgressLine(sys.stderr, language)
    try:
        plan = running.Plan(running.base_of(url), _chosen(only, running.ORDER), **options)
        return trio.run(running.run_check, plan, progress if sys.stderr.isatty() else None)
    except running.CannotRun as error:
        raise CheckCouldNotRun(error.told.into(language)) from None
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        raise KeyboardInterrupt from None
    finally:
        progress.wipe()


def _chosen(only: str, known: Sequence[str]) -> tuple[str, ...]:
    named = [name.strip().upper() for name in only.split(",") if name.strip()]
    unknown = [name for name in named if name not in known]
    if unknown:
        raise click.UsageError(f"--only: there is no row {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(named)
