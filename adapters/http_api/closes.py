"""Why a socket closes: one table of codes, for the description of the wire and for docs/api.md."""

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from adapters.runtime.hub import POLICY_VIOLATION, TOO_MANY_MESSAGES, TOO_MANY_SOCKETS
from messaging_core.errors import SessionRevoked, TokenExpired, TokenInvalid
from messaging_core.profiles import Close
from messaging_core.sockets import OUR_FAULT, RESTARTING, RESUME_EXPECTED, RESUME_LATE, SLOW_CONSUMER, TOO_BIG

ORIGIN_NOT_ALLOWED: Final = Close(POLICY_VIOLATION, "origin_not_allowed")
PROFILE_UNKNOWN: Final = Close(4500, "profile_unknown")


@frozen
class CloseKind:
    """A row of `CLOSES`."""

    codes: tuple[int, ...]
    reasons: tuple[str, ...]
    """Empty where the code has none."""
    advice: str
    """What happened, or what the client does next."""
    may_be_silent: bool = False
    """Whether the reason may be missing."""


CLOSES: Final = (
    CloseKind(
        (POLICY_VIOLATION,),
        (TokenExpired.code, TokenInvalid.code),
        "refresh, connect again; log in if the refresh is a 401",
    ),
    CloseKind((POLICY_VIOLATION,), (SessionRevoked.code,), "log in"),
    CloseKind(
        (ORIGIN_NOT_ALLOWED.code,),
        (ORIGIN_NOT_ALLOWED.reason,),
        "the page's origin is not among `--cors-origins`",
    ),
    CloseKind(
        (1002, 1007), (), "the client sent an invalid WebSocket frame, or invalid UTF-8: fix the client"
    ),
    CloseKind(
        (TOO_BIG.code,),
        (TOO_BIG.reason,),
        "the client sent a message of more than 64 KiB, or a `resume` of more than 256 KiB",
    ),
    CloseKind(
        (OUR_FAULT.code,),
        (OUR_FAULT.reason, "not_read"),
        "the server failed: connect again, after a pause",
        may_be_silent=True,
    ),
    CloseKind(
        (RESTARTING.code,),
        (RESTARTING.reason,),
        "the server restarts: connect again; in profile 2 after `retry_after` seconds",
        may_be_silent=True,
    ),
    CloseKind(
        (SLOW_CONSUMER.code,),
        (SLOW_CONSUMER.reason,),
        "the client did not read the socket: connect again and resume, or fetch the missed messages",
    ),
    CloseKind(
        (RESUME_LATE.code,),
        (RESUME_LATE.reason,),
        "the client connected with `resume=1` and sent no `resume` in 10 s: connect again",
    ),
    CloseKind(
        (TOO_MANY_SOCKETS.code,),
        (TOO_MANY_SOCKETS.reason, TOO_MANY_MESSAGES.reason),
        "connect again later, and send less",
    ),
    CloseKind(
        (PROFILE_UNKNOWN.code,),
        (PROFILE_UNKNOWN.reason,),
        "the server does not speak this profile: do not reconnect with it",
    ),
    CloseKind(
        (RESUME_EXPECTED.code,),
        (RESUME_EXPECTED.reason,),
        "the first message after `resume=1` was no well-formed `resume`: fix the client",
    ),
)


def table() -> str:
    """`CLOSES` in Markdown."""
    return "\n".join(("| code | reason | what to do |", "|---|---|---|", *_rows()))


def _rows() -> Iterator[str]:
    for each in CLOSES:
        quoted = [f"`{reason}`" for reason in each.reasons]
        listed = ", ".join(quoted) + (" or none" if each.may_be_silent else "")
        yield f"| {', '.join(map(str, each.codes))} | {listed} | {each.advice} |".replace("|  |", "| |")
