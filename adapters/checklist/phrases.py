"""A phrase in the two languages of the report."""

from collections.abc import Iterable
from typing import Literal

from attrs import frozen

Language = Literal["en", "ru"]
LANGUAGES: tuple[Language, ...] = ("en", "ru")


@frozen
class Phrase:
    """The same meaning in English and in Russian."""

    en: str
    ru: str

    def into(self, language: Language) -> str:
        """The phrase in this language."""
        return self.ru if language == "ru" else self.en

    def __add__(self, other: "Phrase") -> "Phrase":
        return Phrase(self.en + other.en, self.ru + other.ru)


def verbatim(value: object) -> Phrase:
    """A phrase that needs no translation: a name, a number, a quotation."""
    return Phrase(str(value), str(value))


def joined(phrases: Iterable[Phrase], separator: str = "; ") -> Phrase:
    """The phrases as one, in both languages."""
    listed = list(phrases)
    return Phrase(separator.join(one.en for one in listed), separator.join(one.ru for one in listed))


def language_of(locale: str) -> Language:
    """The report's language for a POSIX locale such as `ru_RU.UTF-8`; English for every other locale."""
    return "ru" if locale.lower().startswith("ru") else "en"
