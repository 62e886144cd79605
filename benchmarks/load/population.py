"""The users and chats in every seeded database, ours and the peers', and the users' tokens."""

import time
from base64 import b64encode

import jwt
from attrs import frozen

PEOPLE = 5000
"""Users have the ids 1 to `PEOPLE`; each has a session with the same id."""

SECRET = "a secret that signs the tokens of benchmarks, and nothing else"
KID = "bench"
NONCE = bytes(range(16))
"""The nonce of every seeded session."""


@frozen
class SeededChat:
    id: int
    title: str
    people: range

    @property
    def is_group(self) -> bool:
        return len(self.people) > 2

    def role(self, person: int) -> str:
        """The first person of a group is its owner."""
        return "owner" if self.is_group and person == self.people[0] else "member"


DIRECT_CHATS = tuple(
    SeededChat(number, "Direct Message", range(2 * number - 1, 2 * number + 1)) for number in range(1, 65)
)
READER = 201
READERS_CHATS = tuple(
    SeededChat(65 + number, "Direct Message", range(READER, READER + number + 2, number + 1))
    for number in range(20)
)
"""Direct chats of `READER`, who is in no other chat."""
HISTORY = READERS_CHATS[0]
"""The chat with the seeded messages."""
GROUPS = {
    100: SeededChat(85, "A hundred people", range(301, 401)),
    1000: SeededChat(86, "A thousand people", range(1001, 2001)),
}
CHATS = (*DIRECT_CHATS, *READERS_CHATS, *GROUPS.values())


def token_of(user_id: int) -> str:
    """An access token that is valid for a day."""
    now = int(time.time())
    claims = {
        "sub": str(user_id),
        "sid": user_id,
        "gen": 1,
        "iat": now,
        "exp": now + 86_400,
        "typ": "access",
        "nonce": b64encode(NONCE).decode("ascii"),
    }
    return jwt.encode(claims, SECRET.encode(), algorithm="HS256", headers={"kid": KID})
