"""How long a test waits for something before it fails."""

PATIENCE = 120
"""Seconds. An idle machine needs milliseconds, a busy one may need thousands of times as long. Only a test
that fails waits so long: one that passes goes on as soon as the thing has happened."""
