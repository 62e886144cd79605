"""A sentence in the two languages of the report."""

from collections.abc import Iterable
from typing import Literal

from attrs import frozen

Language = Literal["en", "ru"]
LANGUAGES: tuple[Language, ...] = ("en", "ru")


@frozen
class Text:
    """The same said in English and in Russian."""

    en: str
    ru: str

    def into(self, language: Language) -> str:
        """What it says in this language."""
        return self.ru if language == "ru" else self.en

    def __add__(self, other: "Text") -> "Text":
        return Text(self.en + other.en, self.ru + other.ru)


def same(told: object) -> Text:
    """What needs no translation: names, numbers, quotations."""
    return Text(str(told), str(told))


def joined(texts: Iterable[Text], by: str = "; ") -> Text:
    """Several one after the other."""
    kept = list(texts)
    return Text(by.join(text.en for text in kept), by.join(text.ru for text in kept))


def language_of(locale: str) -> Language:
    """The report's language for a POSIX locale such as `ru_RU.UTF-8`; English where there is no other."""
    return "ru" if locale.lower().startswith("ru") else "en"
