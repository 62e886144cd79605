"""Accounts: registration, tags, and log-in."""

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime

from attrs import evolve, field, frozen

from messaging_core.characters import SHRINKS, described
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
"""`alice`, `alice2` … `alice9`; then ever longer numbers, so that the thousandth Alice needs few tries."""


@frozen
class Registration:
    """A prepared registration: the command in the form in which it is stored."""

    command: RegisterUser
    email_keys: tuple[str, ...]
    """An account under any of these keys has the same e-mail."""


@frozen
class Credentials:
    """A prepared log-in."""

    email_keys: tuple[str, ...]
    """The keys to look for the account under; the first one that finds an account decides."""
    password: str = field(repr=False)


def prepare_registration(command: RegisterUser, limits: Limits, parse_email: EmailParser) -> Registration:
    """The registration in the form in which it is stored; raises `Invalid`.

    Call it before hashing the password: hashing is expensive.
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
    """An e-mail in the form in which it is stored, and its keys; raises `Invalid`."""
    _check_length(normalise_email(email), limits)
    try:
        forms = parse_email(email)
    except EmailMalformed as reason:
        raise Invalid(FieldError("email", "malformed", f"must be an e-mail address: {reason}")) from None
    normalised = normalise_email(forms.unicode)
    _check_length(normalised, limits)
    _refuse_twin(normalised)
    return normalised, email_keys(email, forms)


def _refuse_twin(email: str) -> None:
    """Raise `Invalid` for a character that stands for others, as full-width letters do for ASCII letters.

    Otherwise two accounts could have e-mails that only their width distinguishes. The domain has none.
    """
    local = email.rpartition("@")[0]
    if unicodedata.is_normalized("NFKC", local):
        return
    plain = unicodedata.normalize("NFKC", local)
    odd = next(each for each in local if not unicodedata.is_normalized("NFKC", each))
    message = f"has the character {described(odd)} before the @: write {plain}"
    raise Invalid(FieldError("email", "compatibility_character", message))


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
    """A new account from a prepared command; `known` is the user with the same e-mail. Raises
    `EmailTaken`.
    """
    if known is not None:
        raise EmailTaken
    user = User(user_id, command.email, command.display_name, tag, command.avatar_url, now)
    return Decision(user, (StoreUser(user, password_hash, email_key(user.email)),))


def prepare_log_in(command: LogIn, limits: Limits, parse_email: EmailParser) -> Credentials:
    """The keys to look for the account under, and the normalised password; raises `Invalid`.

    An e-mail that could not be registered now is accepted: older accounts may have it.
    """
    command = check(command, limits)
    return Credentials(email_keys(command.email, _forms(command.email, parse_email)), command.password)


def log_in_key(email: str, limits: Limits, parse_email: EmailParser) -> str:
    """The key by which attempts to log in are counted: the same for all spellings of an e-mail."""
    forms = _forms(email[: SHRINKS * limits.email_characters], parse_email)
    return email_key(forms.unicode)


def _forms(email: str, parse_email: EmailParser) -> EmailForms:
    """The two forms of an e-mail; a malformed one is both."""
    try:
        return parse_email(unicodedata.normalize("NFC", email))  # as at registration
    except EmailMalformed:
        return EmailForms(email, email)


def log_in(user: User | None, *, password_matches: bool) -> User:
    """The user whose password matches; raises `InvalidCredentials`, also for an unknown e-mail."""
    if user is None or not password_matches:
        raise InvalidCredentials
    return user


def found(user: User | None) -> User:
    """The user that was looked up; raises `UserNotFound`."""
    if user is None:
        raise UserNotFound
    return user


def email_keys(email: str, forms: EmailForms) -> tuple[str, ...]:
    """The distinct keys under which an e-mail may have an account; most have one key.

    The lower-case spellings come first. They find accounts from before letters were folded, of which two may
    share a folded key: each is found by its own spelling.
    """
    spellings = [normalise_email(each) for each in (email, forms.unicode, forms.ascii)]
    return tuple(dict.fromkeys([*spellings, *map(email_key, spellings)]))


def email_key(email: str) -> str:
    """The key that e-mails share if they differ in case only: letters before the `@` are folded, then in NFC.

    `αΣ`, `ας` and `ασ` are one, `ß` is `ss`. The domain is not folded: `straße.de` is not `strasse.de`.
    """
    local, at, domain = normalise_email(email).rpartition("@")
    folded = unicodedata.normalize("NFD", local).casefold()
    return unicodedata.normalize("NFC", folded) + at + domain


def normalise_email(email: str) -> str:
    """An e-mail as stored and shown: in lower case and NFC; normalising it again changes nothing."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email).lower())


def normalise_tag(tag: str) -> str:
    """A tag as stored: without white space at its ends, without a leading `@`, in lower case."""
    return tag.strip().removeprefix("@").lower()


def may_be_tag(tag: str) -> bool:
    """Whether it has the characters of a tag; other text might be nothing that a storage can look up."""
    return bool(tag) and _TAG_CHARACTERS.issuperset(tag)


def tag_candidates(romanised_name: str, chance: Iterable[int]) -> Iterator[str]:
    """Yields tags to try for a name, best first: nine, and one for each number of `chance`.

    `romanised_name` is the display name in ASCII letters as far as possible (`Алиса`: `Alisa`); `chance`
    yields random non-negative integers, each cut to one digit more than the last.
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
