"""Stored responses of schema 0003, which had bodies, and their replays after the upgrade."""

from collections.abc import Callable

from adapters.storage_sql.driver import Row
from messaging_core.ids import UserId
from messaging_core.models import IdempotencyKey, Resource, ResourceKind, StoredResponse
from messaging_core.ports import Storage
from messaging_core.testing.storage_programs import NOW

API = "/api/v1"
RESPONSES: list[tuple[int, str, str, int, bytes, Resource | None]] = [
    # user, method, path, status, body, and the resource in it
    (0, "POST", f"{API}/auth/register", 201, b"7", Resource(ResourceKind.USER, 7)),
    (
        7,
        "POST",
        f"{API}/messages",
        201,
        '{"id":9007199254740991,"content":"ü \\n \\"id\\":3","payload":{"id":4}}'.encode(),
        Resource(ResourceKind.MESSAGE, 2**53 - 1),
    ),
    (7, "PATCH", f"{API}/messages/8", 200, b'{"chat_id":1,"id":8}', Resource(ResourceKind.MESSAGE, 8)),
    (7, "DELETE", f"{API}/messages/8", 204, b"", None),
    (
        7,
        "POST",
        f"{API}/chats/direct",
        200,
        b'{"id":9,"participants":[{"id":7}]}',
        Resource(ResourceKind.CHAT, 9),
    ),
    (7, "POST", f"{API}/chats", 201, b'{"id":10}', Resource(ResourceKind.CHAT, 10)),
    (7, "POST", f"{API}/auth/logout", 204, b"", None),
]


def fill_0003(execute_many: Callable[[str, list[Row]], object], mark: str) -> None:
    """Insert a response of each kind into schema 0003; `mark` is the driver's placeholder."""
    execute_many(
        "INSERT INTO answers (user_id, method, path, key, fingerprint, status, body, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)".replace("?", mark),
        [
            (user, method, path, "k", b"f" * 16, status, body, int(NOW.timestamp()))
            for user, method, path, status, body, _ in RESPONSES
        ],
    )


async def check_0003(storage: Storage) -> None:
    """Each response of `fill_0003` is found by its key and names the resource in its body."""
    for user, method, path, status, _, resource in RESPONSES:
        key = IdempotencyKey(UserId(user) if user else None, method, path, "k")
        expected = StoredResponse(key, b"f" * 16, status, resource, NOW)
        found = await storage.read(lambda reader, key=key: reader.stored_response(key))  # type: ignore[misc]
        assert found == expected
