"""Accounts of schema 0007, found by their e-mail in lower case, and how they are found after the upgrade."""

from collections.abc import Callable

from adapters.storage_sql.driver import Row
from messaging_core.models import EmailForms
from messaging_core.ports import Storage
from messaging_core.users import email_keys

EMAILS = {
    1: "alice@test.com",
    2: "ας@test.com",  # differs from the next one by the case of a letter: each is found as typed
    3: "ασ@test.com",
    4: "νίκος@test.com",
    5: "groß@straße.de",
    6: "x@xn--strae-oqa.de",
    7: "a,b@c.com",  # no longer accepted at registration
    8: "x@t.com\u200b",
    9: "i\u0307" * 249 + "@b.cc",
}
FOUND = [
    ("ALICE@Test.com", 1),
    ("αΣ@test.com", 2),
    ("ας@test.com", 2),
    ("ασ@test.com", 3),
    ("ΑΣ@TEST.COM", 2),
    ("νίκοσ@test.com", 4),
    ("ΝΊΚΟΣ@test.com", 4),
    ("GROSS@straße.de", 5),
    ("GROẞ@straße.de", 5),
    ("gross@strasse.de", None),
    ("x@straße.de", 6),
    ("A,B@c.com", 7),
    ("x@t.com", None),
    ("X@t.com\u200b", 8),
    ("İ" * 249 + "@b.cc", 9),
    ("νικος@test.com", None),
]


def fill_0007(execute_many: Callable[[str, list[Row]], object], mark: str) -> None:
    """Insert accounts into schema 0007; `mark` is the driver's placeholder."""
    rows = [(number, email, "Name", f"tag{number}", None, 5) for number, email in EMAILS.items()]
    execute_many("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)".replace("?", mark), rows)


async def check_0007(storage: Storage) -> None:
    """Each account is found by its e-mail in any case, and by no other account's."""
    for typed, expected in FOUND:
        ascii_form = typed.replace("straße.de", "xn--strae-oqa.de")
        keys = email_keys(typed, EmailForms(typed, ascii_form))
        found = [
            await storage.read(lambda reader, key=key: reader.user_by_email(key))  # type: ignore[misc]
            for key in keys
        ]
        assert next((user.id for user in found if user is not None), None) == expected, ascii(typed)
