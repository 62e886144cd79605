"""Signatures, e-mail addresses and passwords."""

from typing import Protocol

from messaging_core.models import AccessClaims, EmailForms, RefreshClaims


class TokenSigner(Protocol):
    """Signs and verifies tokens, without regard to time; the same claims give the same token."""

    def sign_access(self, claims: AccessClaims) -> str: ...

    def sign_refresh(self, claims: RefreshClaims) -> str: ...

    def read_access(self, token: str) -> AccessClaims:
        """The claims of a token with a valid signature, expired or not; raises `TokenInvalid`."""

    def read_refresh(self, token: str) -> RefreshClaims:
        """The claims of a token with a valid signature, expired or not; raises `RefreshTokenInvalid`."""


class EmailParser(Protocol):
    """Decides whether a text is an e-mail address, and which other texts are equal to it."""

    def __call__(self, email: str, /) -> EmailForms:
        """The address's forms; raises `EmailMalformed`.

        Does not use the network; the length of `email` bounds the time.
        """


class EmailMalformed(Exception):
    """The text is not an e-mail address; the message is one sentence for the person who wrote it."""


class PasswordHasher(Protocol):
    """Slow on purpose, off the event loop, bounded in number and memory, and fair between networks.

    `network` is the network of the request (`addresses.network_of`). However many passwords one network
    sends, the first password of another waits for at most one of them. Raises `PasswordHasherBusy`.
    """

    async def hash(self, password: str, *, network: str) -> str: ...

    async def matches(self, password_hash: str | None, password: str, *, network: str) -> bool:
        """Whether the password has this hash; for None it does the same work and returns False."""


class PasswordHasherBusy(Exception):
    """Too many passwords of this network, or in total, wait to be hashed; nothing was done."""
