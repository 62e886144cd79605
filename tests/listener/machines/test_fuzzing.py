"""The fuzzer's inputs against the machines: each connection ends, in the time that its limits allow.

A move that the tables of phases do not have is a `KeyError`.
"""

import pytest
from hypothesis import given, settings

from adapters.listener.http1 import HttpPhase
from tests.listener.fuzz import FuzzInput, fuzz_inputs
from tests.listener.machines.driver import machine_peer

DEADLINES = 10
"""Deadlines after a connection's last byte: head or body, linger, two pings."""


@pytest.mark.parametrize("whole", [False, True], ids=["through h11", "whole"])
@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(fuzz_input=fuzz_inputs())
def test_each_connection_ends(whole: bool, fuzz_input: FuzzInput) -> None:
    """Whatever the peer sends, and whether it ends its side or falls silent."""
    _, connection = machine_peer(whole=whole)
    for segment in fuzz_input.segments:
        connection.receive(segment)
    if fuzz_input.end == "half-close":
        connection.receive(b"")
    for _ in range(DEADLINES):
        if connection.over:
            break
        connection.wait()
    assert connection.over
    assert connection.socket is not None or connection.http.phase is HttpPhase.OVER
