"""What a storage knows of the responses that are stored for repeated requests."""

from typing import Protocol

from messaging_core.models import IdempotencyKey, StoredResponse


class ResponseReader(Protocol):
    """The read of stored responses; see `Reader`."""

    def stored_response(self, key: IdempotencyKey) -> StoredResponse | None: ...


class ResponseTransaction(ResponseReader, Protocol):
    """The lock of stored responses; see `Transaction`."""

    def lock_stored_response(self, key: IdempotencyKey) -> StoredResponse | None:
        """The stored response; locks the key even if there is none, so that a second caller waits."""
