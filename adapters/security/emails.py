"""E-mail addresses: email-validator behind the core's port."""

from collections.abc import Callable
from functools import cache

from messaging_core.models import EmailForms
from messaging_core.ports import EmailMalformed

MOST_BYTES = 254
"""Bytes of an address in UTF-8 (RFC 5321 4.5.3.1.3, RFC 6531 3.4); the library would refuse more, but only at
the end of its work."""

SENTENCE_CHARACTERS = 200
"""Characters of the library's reason that are passed on: it may list every character of an address."""


def parse_email(email: str) -> EmailForms:
    """A `messaging_core.ports.EmailParser`: checks syntax and Unicode only, and looks nothing up.

    It accepts any domain with a period, also one that no mail from elsewhere reaches, such as
    `intranet.local`. It refuses comments, quotes, display names and IP addresses.
    """
    return _parser()(email)


@cache
def _parser() -> Callable[[str], EmailForms]:
    # Loading it takes a tenth of the server's start, and only registrations and log-ins need it.
    import email_validator  # noqa: PLC0415

    # The documented way to accept such domains.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

    def parse(email: str) -> EmailForms:
        if len(email.encode(errors="replace")) > MOST_BYTES:
            raise EmailMalformed(f"the email address has more than {MOST_BYTES} bytes")
        try:
            found = email_validator.validate_email(email, check_deliverability=False)
        except (email_validator.EmailNotValidError, UnicodeError) as error:
            reason = str(error).rstrip(".")[:SENTENCE_CHARACTERS]
            raise EmailMalformed(reason[:1].lower() + reason[1:]) from None
        return EmailForms(found.normalized, f"{found.local_part}@{found.ascii_domain}")

    return parse


def load_email_parser() -> None:
    """Load the library, so that the first registration does not wait for it."""
    _parser()
