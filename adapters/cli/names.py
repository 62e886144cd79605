"""What settings are given as, judged before their values are: the names of variables, and the characters."""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from unicodedata import category, name

from attrs import frozen

NO_SETTINGS = re.compile(r"CONFIG|SUPERVISED|TEST_\w+|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_\w+")
"""Variables with our prefix that are no mistake: the TOML file's path, what a supervisor gives its worker,
what tests need, and what Kubernetes gives every container of a service called `messaging`."""
KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
"""The value by which that service's variable for its port is known."""

CONTROLS = {"\0": "NUL", "\t": "a tab", "\n": "a line feed", "\r": "a carriage return", "\x1b": "an escape"}
BYTE_ORDER_MARK = "\ufeff"


@frozen
class UnknownVariable:
    """A variable that looks like a setting and is none."""

    name: str
    nearest: str | None
    """The variable that was meant, perhaps."""

    def __str__(self) -> str:
        hint = f"the nearest is {self.nearest}" if self.nearest else "see messaging serve --help"
        return f"The variable {self.name} is no setting and has no effect; {hint}"


def unknown_variables(
    environment: Mapping[str, str], settings: Collection[str], *, prefix: str
) -> Iterator[UnknownVariable]:
    """The variables that begin with the prefix, in whatever letters, and set nothing.

    `settings` are the names of the variables that set something.
    """
    for variable, value in sorted(environment.items()):
        plain = variable.strip(BYTE_ORDER_MARK + " ").upper()
        if not plain.startswith(prefix) or variable in settings:
            continue
        rest = plain.removeprefix(prefix)
        if NO_SETTINGS.fullmatch(rest) or (rest == "PORT" and KUBERNETES_PORT.fullmatch(value)):
            continue
        nearest = nearest_to(rest, [known.removeprefix(prefix) for known in settings])
        shown = "".join(map(_printable, variable))
        yield UnknownVariable(shown, None if nearest is None else prefix + nearest)


def nearest_to(unknown: str, known: Collection[str]) -> str | None:
    """The known name that is written most like this one, if any is."""
    found = get_close_matches(unknown, known, 1)
    return found[0] if found else None


def control_character(value: str, *, lines: bool = False) -> str | None:
    """What to say of the first control character in a setting's value, and its place; None if it has none.

    `lines` are allowed where white space separates parts. The value itself may be secret, and is not quoted.
    """
    allowed = "\t\n" if lines else ""
    for position, character in enumerate(value, 1):
        if character in allowed or not _is_control(character):
            continue
        place = "at its end" if position == len(value) else f"as character {position} of {len(value)}"
        windows = "; lines of a file that was saved on Windows end in it" if character == "\r" else ""
        return f"has {named(character)} {place}{windows}: remove it"
    return None


def named(character: str) -> str:
    """A character that nobody sees, in words."""
    if character == BYTE_ORDER_MARK:
        told = "a byte-order mark"
    else:
        told = CONTROLS.get(character) or name(character, "a control character").lower()
    return f"{told} (U+{ord(character):04X})"


def _is_control(character: str) -> bool:
    return character == BYTE_ORDER_MARK or category(character) in {"Cc", "Zl", "Zp"}


def _printable(character: str) -> str:
    return character if character.isprintable() else f"<{named(character)}>"
