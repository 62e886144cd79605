"""Names in a query: an unknown one is refused, and the refusal names the nearest known one."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import ClassVar

from messaging_core.errors import FieldError, Refused

QUOTED_CHARACTERS = 40
"""Characters that a refusal quotes of a name; the search for the nearest takes quadratic time."""
NAMES_QUOTED = 5
PRIVATE = "_"
"""The first character of the caller's own parameters, such as jQuery's `_=1731` against caches: ignored."""


class UnknownParameter(Refused):
    """The query has unknown names; `errors` names the first five."""

    code: ClassVar[str] = "unknown_parameter"
    sentence: ClassVar[str] = "The query has a parameter that this path does not take."

    def __init__(self, *errors: FieldError) -> None:
        named = "; ".join(f"{error.field}: {error.message}" for error in errors)
        super().__init__(named or None, errors=errors)


def check_names(names: Collection[str], known: Collection[str]) -> None:
    """Raise `UnknownParameter` for names that are neither known nor private."""
    unknown = [name for name in names if name not in known and not name.startswith(PRIVATE)]
    if unknown:
        raise UnknownParameter(*(_error(name[:QUOTED_CHARACTERS], known) for name in unknown[:NAMES_QUOTED]))


def _error(name: str, known: Collection[str]) -> FieldError:
    nearest = get_close_matches(name.lower(), known, 1)
    if nearest:
        hint = f"did you mean {nearest[0]}?"
    elif known:
        hint = f"this path takes {', '.join(sorted(known))}"
    else:
        hint = "this path takes none"
    return FieldError(name, UnknownParameter.code, f"is no parameter of this path; {hint}")
