"""RFC 6455, as Autobahn's testsuite reads it: the machine passes its cases without a network.

Those of section 9, with messages of up to 16 MiB, are left to the tests with a server: wsproto needs a minute
for them.
"""

import pytest

from tests.listener.autobahn import SECTIONS
from tests.listener.machines.autobahn_cases import case_ids, run_case

SMALL = [section for section in SECTIONS if section != "9"]


@pytest.mark.parametrize("section", SMALL)
def test_every_case_of_a_section_passes(section: str) -> None:
    """Each with Autobahn's own verdict on what came back, and on the closing handshake."""
    verdicts = [run_case(case) for case in case_ids(section)]
    assert verdicts
    assert [verdict for verdict in verdicts if not verdict.passed] == []


def test_a_machine_that_violates_the_rfc_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdicts are not given away: a limit that is too small fails the cases with larger messages."""
    assert not run_case("1.1.6", message_bytes=1000).passed
