"""What the buses share: the wire format of signals, and the queue of those that wait to be sent."""

from adapters.signals.outgoing import Outgoing
from adapters.signals.wire import MalformedEnvelope, read_envelope

__all__ = ["MalformedEnvelope", "Outgoing", "read_envelope"]
