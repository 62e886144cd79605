"""E-mail addresses: email-validator behind the core's port."""

from collections.abc import Callable
from functools import cache

from messaging_core.models import EmailForms
from messaging_core.ports import EmailMalformed

MOST_BYTES = 254
"""Of an address in UTF-8 (RFC 5321 4.5.3.1.3, RFC 6531 3.4): the library would refuse more at its end."""

SENTENCE_CHARACTERS = 200
"""What is passed on of a reason: it may list every character of an address."""


def parse_email(email: str) -> EmailForms:
    """A `messaging_core.ports.EmailParser`: syntax and Unicode only, nothing is looked up.

    Any domain will do, also one that no mail reaches from elsewhere: `localhost`, `test`, `intranet.local`.
    Comments, quotes, display names and IP addresses will not.
    """
    return _parser()(email)


@cache
def _parser() -> Callable[[str], EmailForms]:
    # Loading it takes as long as a tenth of the server's start, and only who registers or logs in needs it.
    import email_validator  # noqa: PLC0415

    # Documented as the way to accept them: https://pypi.org/project/email-validator/
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

    def parse(email: str) -> EmailForms:
        if len(email.encode(errors="replace")) > MOST_BYTES:
            raise EmailMalformed(f"the email address has more than {MOST_BYTES} bytes")
        try:
            found = email_validator.validate_email(
                email, check_deliverability=False, globally_deliverable=False
            )
        except (email_validator.EmailNotValidError, UnicodeError) as error:
            reason = str(error).rstrip(".")[:SENTENCE_CHARACTERS]
            raise EmailMalformed(reason[:1].lower() + reason[1:]) from None
        return EmailForms(found.normalized, f"{found.local_part}@{found.ascii_domain}")

    return parse


def load_email_parser() -> None:
    """Load the library, so that the first who registers does not wait for it."""
    _parser()
