"""Shared by the buses: the wire format of signals, and the queue of unsent signals."""

from adapters.signals.outgoing import Outgoing
from adapters.signals.wire import MalformedEnvelope, read_envelope

__all__ = ["MalformedEnvelope", "Outgoing", "read_envelope"]
