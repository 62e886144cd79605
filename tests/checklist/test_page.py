"""What docs/check.md shows and says is what the program does."""

from click.testing import CliRunner

from adapters.cli.main import main
from tests.checklist.samples import PAGE, page_with, sample


async def test_the_samples_are_what_the_program_prints() -> None:
    """The page's reports are real ones, in both languages; python -m tests.checklist.samples writes them."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("```text") == 2
    assert page_with(await sample(), page) == page


def test_every_option_is_explained() -> None:
    """The page names every option that the program offers."""
    told = CliRunner().invoke(main, ["check", "--help"]).output
    page = PAGE.read_text(encoding="utf-8")
    options = [word for line in told.splitlines() for word in line.split()[:1] if word.startswith("--")]
    assert len(options) == 6
    for option in options:
        assert f"`{option} " in page
