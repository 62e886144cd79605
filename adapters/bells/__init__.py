"""What the buses have in common: how bells are written, and those that wait to be sent."""

from adapters.bells.outgoing import Outgoing
from adapters.bells.wire import MalformedEnvelope, read_envelope

__all__ = ["MalformedEnvelope", "Outgoing", "read_envelope"]
