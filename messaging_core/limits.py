"""Every number that bounds the domain: its unit, its source, and what fails beyond it."""

from datetime import timedelta
from math import inf

from attrs import field, frozen
from attrs.validators import ge, gt, le, lt

ACCESS_TTL_FLOOR = timedelta(minutes=15)
"""Checklist, section 6: a shorter-lived access token logs people out while they type."""

REFRESH_TTL_FLOOR = timedelta(days=7)
"""Checklist, section 6: a shorter-lived refresh token sends weekly visitors to the login page."""


PARTICIPANTS_LISTED_LEAST = 10
"""The fewest participants that a chat in a list shows, where it has as many: enough to name a group by."""


FRAME_OVERHEAD_BYTES = 1024
"""An upper bound of an event's JSON without the message's payload and content."""

CONTENT_BYTES = 12
"""The most bytes of JSON for one counted character of content: in NFC three characters of four bytes each may
become one."""


@frozen
class Rate:
    """A token bucket's refill rate and size."""

    per_second: float = field(validator=[gt(0.0), lt(inf)])
    """Permits that a bucket regains each second."""
    burst: int = field(validator=ge(1))
    """Permits in a full bucket."""


@frozen(kw_only=True)
class Limits:
    """The domain's bounds. Raises `ValueError` for a value outside its range."""

    access_ttl: timedelta = field(default=timedelta(minutes=15), validator=ge(ACCESS_TTL_FLOOR))
    """Lifetime of an access token; at least 15 minutes. The longer it is, the longer a stolen token works."""
    refresh_ttl: timedelta = field(default=timedelta(days=30), validator=ge(REFRESH_TTL_FLOOR))
    """Lifetime of a session after its last refresh; at least 7 days."""
    refresh_grace: timedelta = field(default=timedelta(seconds=30), validator=ge(timedelta(seconds=0)))
    """How long the previous refresh token still returns the same successor after that successor was used. If
    it is shorter than a slow page load, reloads log people out."""
    clock_leeway: timedelta = field(default=timedelta(seconds=5), validator=ge(timedelta(seconds=0)))
    """Accepted difference between the clocks of the processes that sign and verify tokens."""
    idempotency_ttl: timedelta = field(default=timedelta(hours=24), validator=gt(timedelta(0)))
    """How long the response to a request with an Idempotency-Key is stored and replayed."""

    email_characters: int = field(default=254, validator=[ge(6), le(254)])
    """Longest e-mail, in lower case: RFC 5321 4.5.3.1.3 without the angle brackets. Mail servers accept no
    longer one."""
    password_min_characters: int = field(default=8, validator=ge(8))
    """Shortest password, both as sent and in NFKC: NIST SP 800-63B 5.1.1.2. Shorter ones can be guessed."""
    password_max_characters: int = field(default=128, validator=[ge(64), le(1024)])
    """Longest password, in NFKC. Above NIST's 64, so that passwords of every password manager fit; bounded,
    because hashing costs time."""
    display_name_characters: int = field(default=64, validator=[ge(1), le(256)])
    """Longest display name, in NFC without white space at its ends: it fits a chat's header line."""
    avatar_url_characters: int = field(default=2048, validator=[ge(64), le(8192)])
    """Longest URL of an avatar; browsers and proxies differ on longer URLs."""
    title_characters: int = field(default=128, validator=[ge(1), le(512)])
    """Longest title of a group, in NFC without white space at its ends."""
    group_members: int = field(default=1000, validator=[ge(2), le(100_000)])
    """People in one group, its owner included; one message costs one delivery to each."""
    members_added: int = field(default=100, validator=[ge(1), le(1000)])
    """People whom one request adds to a group; each is an event of its own for every member."""
    members_page: int = field(default=100, validator=[ge(1), le(200)])
    """Members in a page whose request has no limit."""
    members_page_max: int = field(default=200, validator=[ge(1), le(1000)])
    """Members in the largest page."""
    chats_per_user: int = field(default=2000, validator=[ge(1), le(100_000)])
    """Chats that one user may create: groups, and direct chats that they opened first. Chats that others
    create with them do not count, so no user can exhaust another's limit."""
    chats_listed: int = field(default=1000, validator=[ge(1), le(10_000)])
    """Chats in a list without a limit or cursor; further chats are on pages."""
    chats_page: int = field(default=50, validator=[ge(1), le(200)])
    """Chats in a page whose request has no limit."""
    chats_page_max: int = field(default=200, validator=[ge(1), le(1000)])
    """Chats in the largest page."""
    participants_shown: int = field(default=1000, validator=[ge(10), le(10_000)])
    """Participants shown of a single chat."""
    participants_listed: int = field(default=100, validator=[ge(10), le(1000)])
    """Participants of one chat in a list: of a large group the viewer, the owner, the admins, and then others
    in the order in which they joined."""
    participants_listed_in_all: int = field(default=10_000, validator=[ge(10), le(1_000_000)])
    """Participants in a whole list, some 1.5 MB; beyond them, chats show at most 10 each."""
    last_messages_characters: int = field(default=1_048_576, validator=[ge(0), le(100_000_000)])
    """Characters of the last messages in a list of chats; further chats show none. Senders choose how long
    their messages are, so they must not choose how long other people's lists are."""
    message_characters: int = field(default=4000, validator=[ge(1), le(100_000)])
    """Code points in a message's content, counted in NFC; the content is stored as sent."""
    message_payload_bytes: int = field(default=32_768, validator=[ge(256), le(1_048_576)])
    """UTF-8 bytes of a message's payload as JSON, so that an event stays under 96 KiB."""
    message_payload_depth: int = field(default=32, validator=[ge(1), le(100)])
    """Levels of nested arrays and objects in a payload; clients' parsers recurse."""
    history_page: int = field(default=50, validator=[ge(1), le(200)])
    """Messages in a page of history whose request has no limit."""
    history_page_max: int = field(default=200, validator=[ge(1), le(1000)])
    """Messages in the largest page; more than 50 are read in parts, and other requests run between the
    parts."""
    typing_time: timedelta = field(default=timedelta(seconds=10), validator=ge(timedelta(seconds=2)))
    """How long a report that somebody types holds; clients repeat it meanwhile."""
    typing_members: int = field(default=100, validator=[ge(2), le(10_000)])
    """People in the largest chat in which it is announced who types: each report costs a delivery to each."""
    read_marks_members: int = field(default=100, validator=[ge(2), le(10_000)])
    """People in the largest chat whose members are shown how far the others have read: each reading costs a
    delivery to each."""
    presence_grace: timedelta = field(default=timedelta(seconds=60), validator=ge(timedelta(seconds=5)))
    """How long somebody counts as online after their last socket has closed, so that a restart and a lost
    connection are not seen."""
    heartbeat_time: timedelta = field(default=timedelta(minutes=5), validator=ge(timedelta(seconds=30)))
    """How long somebody counts as online after a heartbeat without a socket."""
    device_characters: int = field(default=200, validator=ge(16))
    """Characters of a User-Agent that are stored as the name of a session."""
    sockets_per_user: int = field(default=20, validator=ge(1))
    """Open sockets of one user in one process."""
    outbox_frames: int = field(default=1000, validator=ge(2))
    """Frames queued for one socket; beyond it the socket is closed as a slow consumer."""
    outbox_bytes: int = field(default=1_048_576, validator=ge(65_536))
    """Bytes queued for one socket; beyond it the socket is closed as a slow consumer. Multiplied by the
    number of sockets it bounds the memory."""
    command_bytes: int = field(default=65_536, validator=ge(1024))
    """Bytes of a message from the client of a socket of profile 2, other than `resume`; 1009 beyond."""
    commands_queued: int = field(default=16, validator=ge(1))
    """Commands that wait on one socket, one of which is carried out at a time; `error` beyond."""
    resume_bytes: int = field(default=262_144, validator=ge(1024))
    """Bytes of a `resume`: the positions of some 20,000 chats; 1009 beyond."""
    resumed_events: int = field(default=2000, validator=ge(1))
    """Missed events that one resumption sends; a chat with more is sent as a `chat.resync`."""
    resumed_bytes: int = field(default=4_194_304, validator=ge(65_536))
    """Bytes of missed events that one resumption sends; after them, chats are sent as `chat.resync`."""

    login_rate: Rate = field(default=Rate(per_second=10 / 60, burst=10))
    """Attempts to log in, per e-mail and address."""
    login_address_rate: Rate = field(default=Rate(per_second=1, burst=60))
    """Attempts to log in, per address, whatever the e-mail; each costs an argon2 hash."""
    registration_rate: Rate = field(default=Rate(per_second=0.5, burst=30))
    """Registrations, per address; each costs an argon2 hash."""
    refresh_rate: Rate = field(default=Rate(per_second=5, burst=100))
    """Token refreshes, per session; a browser with many tabs sends dozens at once."""
    stranger_rate: Rate = field(default=Rate(per_second=0.1, burst=50))
    """Look-ups by id of users who share no chat with the caller, and new direct chats, per user. Ids can be
    enumerated: at this rate 10,000 of them take 28 hours. Groups have group_people_rate."""
    stranger_address_rate: Rate = field(default=Rate(per_second=0.5, burst=200))
    """The same, per address for all its users: new accounts allow no more look-ups. 10,000 ids take 5
    hours."""
    refused_socket_rate: Rate = field(default=Rate(per_second=0.1, burst=10))
    """Sockets that are refused without delay, per token, or per address where no token is sent. Further ones
    wait up to 8 s: clients that reset their back-off when a socket opens reconnect for ever."""
    message_rate: Rate = field(default=Rate(per_second=20, burst=100))
    """Messages sent, edited and deleted, per user."""
    group_rate: Rate = field(default=Rate(per_second=20 / 3600, burst=20))
    """Requests to create a group, per user, refused ones included; each costs rows and deliveries."""
    group_people_rate: Rate = field(default=Rate(per_second=0.1, burst=200))
    """People named in new groups, known or not, per user; a permit covers members_per_permit of them. A group
    shows its members, so it must not be a quicker way through all ids: 10,000 of them take 2 hours."""
    group_people_address_rate: Rate = field(default=Rate(per_second=0.2, burst=300))
    """The same, per address for all its users: 10,000 people take an hour."""
    request_rate: Rate = field(default=Rate(per_second=50, burst=300))
    """Every other request, per user."""
    response_bytes_per_permit: int = field(default=65_536, validator=ge(1024))
    """Bytes of a response that one permit of request_rate covers: 200 short messages. A larger response is
    charged more permits once its size is known; a megabyte blocks the event loop for some 5 ms."""
    members_per_permit: int = field(default=10, validator=ge(1))
    """Members of a new group that one permit of request_rate covers; each costs two rows, some 4 KB of
    log."""
    deliveries_per_permit: int = field(default=250, validator=ge(1))
    """Deliveries of an event that one permit of message_rate covers; a message to 1,000 people takes 4
    permits. Delivery to a thousand open sockets blocks the event loop for some 5 ms."""

    def __attrs_post_init__(self) -> None:
        """Refuse bounds that exclude each other."""
        if self.password_min_characters > self.password_max_characters:
            raise ValueError("password_min_characters is above password_max_characters: no password fits")
        if self.history_page > self.history_page_max:
            raise ValueError("history_page is above history_page_max: the default page would be refused")
        if self.chats_page > self.chats_page_max:
            raise ValueError("chats_page is above chats_page_max: the default page would be refused")
        if self.members_page > self.members_page_max:
            raise ValueError("members_page is above members_page_max: the default page would be refused")
        if self.participants_listed_in_all < PARTICIPANTS_LISTED_LEAST * self.chats_listed:
            raise ValueError(
                f"participants_listed_in_all is below {PARTICIPANTS_LISTED_LEAST} for each of chats_listed:"
                " the last chats of a list would show too few participants"
            )
        if self.access_ttl > self.refresh_ttl:
            raise ValueError("access_ttl is above refresh_ttl: an access token would outlive its session")
        largest = self.message_payload_bytes + CONTENT_BYTES * self.message_characters + FRAME_OVERHEAD_BYTES
        if self.outbox_bytes < largest:
            raise ValueError(
                f"outbox_bytes is below {largest}: a message that message_payload_bytes and"
                " message_characters allow would close every socket that it is sent to"
            )
