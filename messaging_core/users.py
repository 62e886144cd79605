"""Accounts: who may register, under which tag, and who may log in."""

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime

from attrs import evolve, field, frozen

from messaging_core.characters import SHRINKS
from messaging_core.commands import LogIn, RegisterUser
from messaging_core.constraints import check
from messaging_core.effects import Decision, StoreUser
from messaging_core.errors import EmailTaken, FieldError, Invalid, InvalidCredentials, UserNotFound
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import EmailForms, User
from messaging_core.ports import EmailMalformed, EmailParser

TAG_MIN_CHARACTERS = 3
TAG_MAX_CHARACTERS = 32
_TAG_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_TAG_CHARACTERS = _TAG_LETTERS | {"_", "."}
_FALLBACK_TAG = "user"
_NUMBERED_TAGS = 9
"""`alice`, `alice2` … `alice9`; beyond, wider and wider numbers: the thousandth Alice needs few tries."""


@frozen
class Registration:
    """What a registration comes to: the command in the form in which it is kept."""

    command: RegisterUser
    email_keys: tuple[str, ...]
    """Under any of which an account may have the same e-mail."""


@frozen
class Credentials:
    """What a log-in comes to."""

    email_keys: tuple[str, ...]
    """Under any of which the account may be; the first that is one is it."""
    password: str = field(repr=False)


def prepare_registration(command: RegisterUser, limits: Limits, parse_email: EmailParser) -> Registration:
    """The registration in the form in which it is kept; raises `Invalid`.

    Ask before hashing the password: it is cheap, and hashing is not.
    """
    errors: tuple[FieldError, ...] = ()
    try:
        command = check(command, limits)
    except Invalid as refused:
        errors = refused.errors
    if not any(error.field == "email" for error in errors):
        try:
            email, keys = _read_email(command.email, limits, parse_email)
        except Invalid as refused:
            errors += refused.errors
        else:
            if not errors:
                return Registration(evolve(command, email=email), keys)
    raise Invalid(*errors)


def _read_email(email: str, limits: Limits, parse_email: EmailParser) -> tuple[str, tuple[str, ...]]:
    """An e-mail in the form in which it is kept, and its keys; raises `Invalid`."""
    _check_length(normalise_email(email), limits)
    try:
        forms = parse_email(email)
    except EmailMalformed as reason:
        raise Invalid(FieldError("email", "malformed", f"must be an e-mail address: {reason}")) from None
    kept = normalise_email(forms.unicode)
    _check_length(kept, limits)
    return kept, email_keys(email, forms)


def _check_length(email: str, limits: Limits) -> None:
    if len(email) > limits.email_characters:
        message = f"has {len(email)} characters in lower case, at most {limits.email_characters} are allowed"
        raise Invalid(FieldError("email", "too_long", message))


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
    return Decision(user, (StoreUser(user, password_hash, email_key(user.email)),))


def prepare_log_in(command: LogIn, limits: Limits, parse_email: EmailParser) -> Credentials:
    """Under which keys to look for the account, and the password in its form; raises `Invalid`.

    An e-mail that nobody could register with now is looked for as well: there are accounts from before.
    """
    command = check(command, limits)
    return Credentials(email_keys(command.email, _forms(command.email, parse_email)), command.password)


def log_in_key(email: str, limits: Limits, parse_email: EmailParser) -> str:
    """By what attempts to log in are counted: the same for all spellings of an e-mail."""
    forms = _forms(email[: SHRINKS * limits.email_characters], parse_email)
    return email_key(forms.unicode)


def _forms(email: str, parse_email: EmailParser) -> EmailForms:
    """The forms of an e-mail; of what is none, itself."""
    try:
        return parse_email(unicodedata.normalize("NFC", email))  # as a registration's is
    except EmailMalformed:
        return EmailForms(email, email)


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


def email_keys(email: str, forms: EmailForms) -> tuple[str, ...]:
    """The keys under which an e-mail may have an account, each once: mostly there is one.

    Those of its spellings in lower case come first. They find accounts that were made before letters were
    folded, of which two may share a folded key: each is found by its own spelling.
    """
    spellings = [normalise_email(each) for each in (email, forms.unicode, forms.ascii)]
    return tuple(dict.fromkeys([*spellings, *map(email_key, spellings)]))


def email_key(email: str) -> str:
    """What e-mails have in common that differ in case only: letters before the `@` are folded, then in NFC.

    `αΣ`, `ας` and `ασ` are one, `ß` is `ss`. The domain is as it is: `straße.de` is not `strasse.de`.
    """
    local, at, domain = normalise_email(email).rpartition("@")
    folded = unicodedata.normalize("NFD", local).casefold()
    return unicodedata.normalize("NFC", folded) + at + domain


def normalise_email(email: str) -> str:
    """An e-mail as it is kept and shown: in lower case and NFC; normalising it again changes nothing."""
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
