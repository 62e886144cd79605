"""What every test of the project has in common."""

import os
from collections.abc import Generator

import pytest

# The contract suites and strategies that the core ships make their points with plain asserts.
pytest.register_assert_rewrite("messaging_core.testing")

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


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
