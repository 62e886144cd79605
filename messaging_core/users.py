"""Accounts: who may register, under which tag, and who may log in."""

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime

from attrs import evolve

from messaging_core.commands import LogIn, RegisterUser
from messaging_core.constraints import check
from messaging_core.effects import Decision, StoreUser
from messaging_core.errors import EmailTaken, InvalidCredentials, UserNotFound
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import User

TAG_MIN_CHARACTERS = 3
TAG_MAX_CHARACTERS = 32
_TAG_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_TAG_CHARACTERS = _TAG_LETTERS | {"_", "."}
_FALLBACK_TAG = "user"
_NUMBERED_TAGS = 9
"""`alice`, `alice2` … `alice9`; beyond, wider and wider numbers: the thousandth Alice needs few tries."""


def prepare_registration(command: RegisterUser, limits: Limits) -> RegisterUser:
    """The command with e-mail, password and name in the form in which they are kept; raises `Invalid`.

    Ask before hashing the password: it is cheap, and hashing is not.
    """
    command = check(command, limits)
    return evolve(command, email=normalise_email(command.email))


def register(
    command: RegisterUser,
    *,
    known: User | None,
    tag: str,
    user_id: UserId,
    password_hash: str,
    now: datetime,
) -> Decision[User]:
    """A new account from a prepared command; `known` is who has its e-mail already. Raises `EmailTaken`."""
    if known is not None:
        raise EmailTaken
    user = User(user_id, command.email, command.display_name, tag, command.avatar_url, now)
    return Decision(user, (StoreUser(user, password_hash),))


def prepare_log_in(command: LogIn, limits: Limits) -> LogIn:
    """The command with e-mail and password in the form in which they are kept; raises `Invalid`."""
    command = check(command, limits)
    return evolve(command, email=normalise_email(command.email))


def log_in(user: User | None, *, password_matches: bool) -> User:
    """The user whose password was right; raises `InvalidCredentials`, alike for an unknown e-mail."""
    if user is None or not password_matches:
        raise InvalidCredentials
    return user


def found(user: User | None) -> User:
    """The user that was looked for; raises `UserNotFound`."""
    if user is None:
        raise UserNotFound
    return user


def normalise_email(email: str) -> str:
    """The form by which an e-mail is unique: lower case, NFC; normalising it again changes nothing."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email).lower())


def normalise_tag(tag: str) -> str:
    """A tag as it is kept: without white space around it, without a leading `@`, in lower case."""
    return tag.strip().removeprefix("@").lower()


def may_be_tag(tag: str) -> bool:
    """Whether anybody may have it: what else is asked for need not be anything that a storage can look up."""
    return bool(tag) and _TAG_CHARACTERS.issuperset(tag)


def tag_candidates(romanised_name: str, chance: Iterable[int]) -> Iterator[str]:
    """Tags to try for a name, best first, as many as `chance` has numbers and nine more.

    `romanised_name` is the display name in ASCII letters as far as it can be (`Алиса`: `Alisa`); `chance`
    gives random non-negative integers, each of which is cut to one digit more than the last.
    """
    letters = "".join(letter for letter in romanised_name.lower() if letter in _TAG_LETTERS)
    base = (letters or _FALLBACK_TAG)[: TAG_MAX_CHARACTERS - 10]
    padding = TAG_MIN_CHARACTERS - len(base)
    if padding <= 0:
        yield base
    for number in range(1 if padding > 0 else 2, _NUMBERED_TAGS + 1):
        yield base + str(number).zfill(padding)
    for digits, number in enumerate(chance, start=3):
        yield base + str(number % 10 ** min(digits, 9)).zfill(max(padding, 3))
