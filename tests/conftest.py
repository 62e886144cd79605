"""Settings, hooks and fixtures for all tests."""

import os
import signal
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trio.testing import MockClock

# The contract suites and the helpers of these folders use plain asserts; rewritten, they show the values.
pytest.register_assert_rewrite("messaging_core.testing", "tests.server", "tests.listener")

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


def pytest_configure(config: pytest.Config) -> None:
    """Configure Hypothesis without deadlines, so that no test fails on a slow machine.

    A shell starts a background command with these signals ignored; tests send them, to servers too.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import Phase, settings  # noqa: PLC0415 - tests load this module without Hypothesis

        settings.register_profile("messaging", deadline=None)
        # For `make mutants`, which runs each property thousands of times, and needs no minimal example.
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
    """In CI a skipped test fails, because every test must run."""
    report = yield
    _refuse_to_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI a module that skips itself fails too."""
    report = yield
    _refuse_to_skip(report)
    return report


@pytest.fixture
def clock() -> "MockClock":
    """Real time, which the test can move forward: so a timeout expires when it must, and at no other time."""
    from trio.testing import MockClock  # noqa: PLC0415 - tests load this module without trio

    return MockClock(rate=1.0)


@pytest.fixture(scope="session")
def postgresql_tables() -> Iterator[str]:
    """The address of a PostgreSQL database of this session, with tables; each user empties it first."""
    # Only this fixture needs the driver, and tests load this module without it.
    from tests.postgresql import new_database_with_tables  # noqa: PLC0415

    with new_database_with_tables() as address:
        yield address


@pytest.fixture
def postgresql(postgresql_tables: str) -> str:
    """The address of this session's PostgreSQL database, with empty tables."""
    from tests.postgresql import empty  # noqa: PLC0415

    empty(postgresql_tables)
    return postgresql_tables
