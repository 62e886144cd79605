"""Checks of settings before their values are parsed: the variables' names, and control characters."""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from unicodedata import category, name

from attrs import frozen

NO_SETTINGS = re.compile(r"CONFIG|SUPERVISED|TEST_\w+|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_\w+")
"""Known variables with the prefix that are no settings: the TOML file's path, a worker's, those for tests,
and those that Kubernetes sets in every container for a service called `messaging`."""
KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
"""The value that identifies Kubernetes' variable for the service's port."""

CONTROLS = {"\0": "NUL", "\t": "a tab", "\n": "a line feed", "\r": "a carriage return", "\x1b": "an escape"}
BYTE_ORDER_MARK = "\ufeff"


@frozen
class UnknownVariable:
    """A variable with the settings' prefix that is no setting."""

    name: str
    nearest: str | None
    """The setting's variable with the most similar name, if any."""

    def __str__(self) -> str:
        hint = f"the nearest is {self.nearest}" if self.nearest else "see messaging serve --help"
        return f"The variable {self.name} is no setting and has no effect; {hint}"


def unknown_variables(
    environment: Mapping[str, str], settings: Collection[str], *, prefix: str
) -> Iterator[UnknownVariable]:
    """Yields the variables that begin with the prefix, in any case, and are no settings.

    `settings` are the names of the settings' variables.
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
    """The known name that is most similar, if any is."""
    found = get_close_matches(unknown, known, 1)
    return found[0] if found else None


def control_character(value: str, *, lines: bool = False) -> str | None:
    """The error text for the first control character in a setting's value; None if there is none.

    `lines` allows line feeds and tabs, where white space separates parts. The text does not quote the value,
    which may be secret.
    """
    allowed = "\t\n" if lines else ""
    for position, character in enumerate(value, 1):
        if character in allowed or not _is_control(character):
            continue
        where = "at its end" if position == len(value) else f"as character {position} of {len(value)}"
        windows = "; lines of a file that was saved on Windows end in it" if character == "\r" else ""
        return f"has {named(character)} {where}{windows}: remove it"
    return None


def named(character: str) -> str:
    """An invisible character, in words."""
    if character == BYTE_ORDER_MARK:
        words = "a byte-order mark"
    else:
        words = CONTROLS.get(character) or name(character, "a control character").lower()
    return f"{words} (U+{ord(character):04X})"


def _is_control(character: str) -> bool:
    return character == BYTE_ORDER_MARK or category(character) in {"Cc", "Zl", "Zp"}


def _printable(character: str) -> str:
    return character if character.isprintable() else f"<{named(character)}>"
