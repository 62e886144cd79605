"""What every test of the project has in common."""

import os
from collections.abc import Generator, Iterator

import pytest

# The contract suites and strategies that the core ships make their points with plain asserts, and so do the
# helpers of these rooms: a failure shows what was compared.
pytest.register_assert_rewrite("messaging_core.testing", "tests.server", "tests.listener")

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


def pytest_configure(config: pytest.Config) -> None:
    """No test of the project fails for being slow, on whatever machine."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import Phase, settings  # noqa: PLC0415 - runs inside of runs load this module, too

        settings.register_profile("messaging", deadline=None)
        # For `make mutants`, which runs a property thousands of times: a failure need not be small or new.
        settings.register_profile(
            "mutants",
            deadline=None,
            derandomize=True,
            max_examples=40,
            phases=[Phase.explicit, Phase.generate],
        )
        settings.load_profile("messaging")


def _refuse_to_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    expected_failure = getattr(report, "wasxfail", None)
    if IN_CI and (report.skipped or expected_failure is not None):
        report.outcome = "failed"
        report.longrepr = f"skipped or expected to fail, which CI takes for a failure: {report.longrepr}"
        if expected_failure is not None:
            del report.wasxfail


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI every test runs and passes: one that is skipped tells nothing."""
    report = yield
    _refuse_to_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    _refuse_to_skip(report)
    return report


@pytest.fixture(scope="session")
def postgresql_tables() -> Iterator[str]:
    """The address of a PostgreSQL database of this session's own, with the tables; who uses it empties it."""
    # Nothing else here needs the driver, and runs inside of runs load this module, too.
    from tests.postgresql import made_with_tables  # noqa: PLC0415

    with made_with_tables() as address:
        yield address


@pytest.fixture
def postgresql(postgresql_tables: str) -> str:
    """The same, empty."""
    from tests.postgresql import empty  # noqa: PLC0415

    empty(postgresql_tables)
    return postgresql_tables
