"""Identifiers: positive integers that a JavaScript number holds exactly."""

from typing import NewType

UserId = NewType("UserId", int)
SessionId = NewType("SessionId", int)
ChatId = NewType("ChatId", int)
MessageId = NewType("MessageId", int)

MessageIdOrZero = NewType("MessageIdOrZero", int)
"""A message's identifier, or 0 for the position before a chat's first message."""

MAX_ID = 2**53 - 1
"""The largest identifier: JavaScript's `Number.MAX_SAFE_INTEGER`."""
