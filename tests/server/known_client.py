"""The client that the checklist was written for: what it sends, and how long it waits."""

from typing import Any

import httpx
import trio
from attrs import define

from tests.server.clients import new_key


@define
class KnownClient:
    """The known frontend: two tokens in localStorage, and no coordination between tabs."""

    http: httpx.AsyncClient
    access_token: str
    refresh_token: str
    logged_out: bool = False

    async def request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """On 401, refresh with the token that was read first, and retry once with the same key."""
        refresh_token, key = self.refresh_token, new_key() if method == "POST" else None
        response = await self._send(method, path, body, key)
        if response.status_code != 401:
            return response
        refreshed = await self.http.post("/auth/refresh", json={"refresh_token": refresh_token})
        if refreshed.status_code != 200:
            self.logged_out = True
            return refreshed
        self.access_token = refreshed.json()["access_token"]
        self.refresh_token = refreshed.json()["refresh_token"]
        response = await self._send(method, path, body, key)
        self.logged_out |= response.status_code == 401
        return response

    async def _send(self, method: str, path: str, body: Any, key: str | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.access_token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.http.request(method, path, headers=headers, json=body)

    async def reload(self, requests: list[tuple[str, str, Any]]) -> list[httpx.Response]:
        """Send all requests at once, as a page does while it loads."""
        responses: list[httpx.Response] = []

        async def send(method: str, path: str, body: Any) -> None:
            responses.append(await self.request(method, path, body))

        async with trio.open_nursery() as nursery:
            for request in requests:
                nursery.start_soon(send, *request)
        return responses


def page_load(chat: int, other: int) -> list[tuple[str, str, Any]]:
    return [
        ("GET", "/users/me", None),
        ("GET", "/chats", None),
        ("GET", f"/chats/{chat}", None),
        ("GET", f"/messages?chat_id={chat}", None),
        ("POST", "/chats/direct", {"user_id": other}),
        ("POST", "/messages", {"chat_id": chat, "type": "text", "content": "sent while reloading"}),
    ]
