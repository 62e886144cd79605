"""docs/check.md describes the program as it is."""

from click.testing import CliRunner

from adapters.cli.main import main
from tests.checklist.samples import PAGE, page_with, sample


async def test_the_samples_are_what_the_program_prints() -> None:
    """The page's sample reports are the program's output; python -m tests.checklist.samples updates them."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("```text") == 2
    assert page_with(await sample(), page) == page


def test_every_option_is_explained() -> None:
    """The page explains every option of `--help`."""
    usage = CliRunner().invoke(main, ["check", "--help"]).output
    page = PAGE.read_text(encoding="utf-8")
    options = [word for line in usage.splitlines() for word in line.split()[:1] if word.startswith("--")]
    assert len(options) == 6
    for option in options:
        assert f"`{option} " in page
