"""Limits: the contract's defaults, and the range of each limit."""

import math
from datetime import timedelta
from typing import Any

import pytest
from attrs import fields

from messaging_core.limits import CONTENT_BYTES, FRAME_OVERHEAD_BYTES, Limits, Rate


def test_defaults() -> None:
    """The defaults are those of the contract."""
    limits = Limits()
    assert limits.access_ttl == timedelta(minutes=15)
    assert limits.refresh_ttl >= timedelta(days=7)
    assert limits.refresh_grace == timedelta(seconds=30)
    assert limits.idempotency_ttl == timedelta(hours=24)
    assert limits.message_characters == 4000
    assert limits.group_members == 1000
    assert limits.sockets_per_user == 20
    assert (limits.presence_grace, limits.heartbeat_time) == (timedelta(seconds=60), timedelta(minutes=5))
    assert (limits.typing_time, limits.typing_members) == (timedelta(seconds=10), 100)
    assert (limits.password_min_characters, limits.password_max_characters) == (8, 128)
    assert (limits.history_page, limits.history_page_max) == (50, 200)
    assert (limits.chats_per_user, limits.chats_listed, limits.chats_page_max) == (2000, 1000, 200)
    assert (limits.members_added, limits.members_page, limits.members_page_max) == (100, 100, 200)
    assert (limits.participants_shown, limits.participants_listed) == (1000, 100)
    assert limits.participants_listed_in_all == 10_000
    assert limits.group_rate == Rate(per_second=20 / 3600, burst=20)
    assert limits.login_rate == Rate(per_second=10 / 60, burst=10)
    assert limits.message_rate == Rate(per_second=20, burst=100)


BOUNDS: dict[str, tuple[Any, Any]] = {
    # name: the smallest and the largest value; None for no bound
    "access_ttl": (timedelta(minutes=15), None),
    "refresh_ttl": (timedelta(days=7), None),
    "refresh_grace": (timedelta(0), None),
    "clock_leeway": (timedelta(0), None),
    "idempotency_ttl": (timedelta(microseconds=1), None),
    "email_characters": (6, 254),
    "password_min_characters": (8, None),
    "password_max_characters": (64, 1024),
    "display_name_characters": (1, 256),
    "avatar_url_characters": (64, 8192),
    "title_characters": (1, 512),
    "group_members": (2, 100_000),
    "members_added": (1, 1000),
    "members_page": (1, 200),
    "members_page_max": (1, 1000),
    "chats_per_user": (1, 100_000),
    "chats_listed": (1, 10_000),
    "chats_page": (1, 200),
    "chats_page_max": (1, 1000),
    "participants_shown": (10, 10_000),
    "participants_listed": (10, 1000),
    "participants_listed_in_all": (10, 1_000_000),
    "last_messages_characters": (0, 100_000_000),
    "message_characters": (1, 100_000),
    "message_payload_bytes": (256, 1_048_576),
    "message_payload_depth": (1, 100),
    "history_page": (1, 200),
    "history_page_max": (1, 1000),
    "typing_time": (timedelta(seconds=2), None),
    "typing_members": (2, 10_000),
    "read_marks_members": (2, 10_000),
    "presence_grace": (timedelta(seconds=5), None),
    "heartbeat_time": (timedelta(seconds=30), None),
    "device_characters": (16, None),
    "sockets_per_user": (1, None),
    "outbox_frames": (2, None),
    "outbox_bytes": (65_536, None),
    "command_bytes": (1024, None),
    "commands_queued": (1, None),
    "resume_bytes": (1024, None),
    "resumed_events": (1, None),
    "resumed_bytes": (65_536, None),
    "response_bytes_per_permit": (1024, None),
    "members_per_permit": (1, None),
    "deliveries_per_permit": (1, None),
}

ROOMY: dict[str, Any] = {
    "outbox_bytes": 2**24,
    "message_characters": 100,
    "history_page": 1,
    "chats_page": 1,
    "members_page": 1,
    "chats_listed": 1,
    "participants_listed_in_all": 1_000_000,
}
"""Values that let each bound be tested alone."""


def build(name: str, value: Any) -> Limits:
    return Limits(**ROOMY | {name: value})


def test_every_limit_has_a_range_here() -> None:
    """Every limit has an entry in `BOUNDS`; a new limit needs a range here."""
    numbers = {field.name for field in fields(Limits) if not isinstance(getattr(Limits(), field.name), Rate)}
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_value_beyond_its_range_is_refused(name: str) -> None:
    """The ends of a range are valid; a value beyond them is refused with the limit's name."""
    for value, step in zip(BOUNDS[name], (-1, 1), strict=True):
        if value is None:
            continue
        assert getattr(build(name, value), name) == value
        beyond = value + step * (timedelta(microseconds=1) if isinstance(value, timedelta) else 1)
        with pytest.raises(ValueError, match=name):
            build(name, beyond)


@pytest.mark.parametrize(
    "changes",
    [
        {"password_min_characters": 129},
        {"history_page": 50, "history_page_max": 49},
        {"chats_page": 50, "chats_page_max": 49},
        {"members_page": 100, "members_page_max": 99},
        {"participants_listed_in_all": 9_999, "chats_listed": 1000},
        {"access_ttl": timedelta(days=8), "refresh_ttl": timedelta(days=7)},
        {"outbox_bytes": 65_536, "message_payload_bytes": 65_536},
        {"outbox_bytes": 65_536, "message_characters": 100_000},
    ],
)
def test_limits_that_exclude_each_other_are_refused(changes: dict[str, Any]) -> None:
    """Two limits that are valid alone and contradict each other are refused with both names."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Limits(**changes)
    assert all(name in str(refused.value) for name in list(changes)[:1])


LARGEST_MESSAGE = 32_768 + CONTENT_BYTES * 4000 + FRAME_OVERHEAD_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"password_min_characters": 128},
        {"history_page": 50, "history_page_max": 50},
        {"chats_page": 50, "chats_page_max": 50},
        {"members_page": 100, "members_page_max": 100},
        {"participants_listed_in_all": 10_000, "chats_listed": 1000},
        {"access_ttl": timedelta(days=7), "refresh_ttl": timedelta(days=7)},
        {"outbox_bytes": LARGEST_MESSAGE, "message_payload_bytes": 32_768, "message_characters": 4000},
    ],
)
def test_limits_that_just_agree_are_accepted(changes: dict[str, Any]) -> None:
    """Two limits contradict each other beyond equality only."""
    Limits(**changes)


def test_the_outbox_holds_the_largest_message() -> None:
    """An outbox that is one byte smaller than the largest message is refused."""
    with pytest.raises(ValueError, match=f"outbox_bytes is below {LARGEST_MESSAGE}"):
        Limits(outbox_bytes=LARGEST_MESSAGE - 1, message_payload_bytes=32_768, message_characters=4000)


@pytest.mark.parametrize("per_second", [0, -1, math.nan, math.inf])
def test_a_rate_is_positive_and_finite(per_second: float) -> None:
    """A rate is above zero and finite."""
    with pytest.raises(ValueError, match="per_second"):
        Rate(per_second=per_second, burst=1)


@pytest.mark.parametrize("burst", [0, -1])
def test_a_bucket_holds_at_least_one_permit(burst: int) -> None:
    """A bucket without permits would refuse everything."""
    with pytest.raises(ValueError, match="burst"):
        Rate(per_second=1, burst=burst)
