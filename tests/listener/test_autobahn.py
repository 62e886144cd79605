"""RFC 6455, as Autobahn's testsuite reads it: every case that applies passes."""

from tests.listener.autobahn import REPORT, run_all


def test_every_case_that_applies_passes() -> None:
    """`python -m tests.listener.autobahn` writes the documented table."""
    verdicts = run_all()
    assert [verdict for verdict in verdicts if not verdict.passed] == []
    assert f"{len(verdicts)} cases apply and {len(verdicts)} pass." in REPORT.read_text()
