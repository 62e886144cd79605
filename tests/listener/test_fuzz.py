"""A few of the fuzzer's inputs; the whole run is `python -m tests.listener.fuzz --inputs 200000`."""

from tests.listener.fuzz import fuzz


def test_the_server_lives_through_generated_handshakes_and_frames() -> None:
    """Each connection ends, long-standing ones are served, without a fault, and memory does not grow."""
    report = fuzz(1_000)
    assert report.inputs >= 950  # Hypothesis may find fewer that differ
    assert report.counts is not None
    assert report.counts["faults"] == 0
    assert report.counts["application_errors"] == 0
    assert report.counts["open_connections"] == 0
    assert report.rss_kib_end - report.rss_kib_warm < 10_000
