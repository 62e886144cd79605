"""The reducer of a client: what frames and responses make of its state."""

from typing import Any

import pytest

from messaging_core.client import Client, Fetch, HeldChat, Reconnect, SendFrame

ALICE: dict[str, Any] = {"id": 1, "email": None, "display_name": "Alice", "tag": "alice", "avatar_url": None}
BOB: dict[str, Any] = {"id": 2, "email": None, "display_name": "Bob", "tag": "bob", "avatar_url": None}
CAROL: dict[str, Any] = {"id": 3, "email": None, "display_name": "Carol", "tag": "carol", "avatar_url": None}
LOG = "a-log"
NEWEST_PAGE = Fetch("/api/v1/messages?chat_id=5&limit=50", 5)
THE_CHAT = Fetch("/api/v1/chats/5", 5)


def a_chat(**changed: Any) -> dict[str, Any]:
    """A group of Alice and Bob, as Alice sees it."""
    chat = {
        "id": 5,
        "title": "Friday",
        "participants": [ALICE, BOB],
        "participants_count": 2,
        "my_role": "member",
        "last_message": None,
        "unread_count": 0,
        "read_up_to": None,
        "others_read_up_to": None,
        "sequence": 3,
        "updated_at": "2024-11-04T14:30:00Z",
        "history": "all",
        "avatar_url": None,
    }
    return {**chat, **changed}


def a_message(id_: int, revision: int, content: str | None = "Hello") -> dict[str, Any]:
    ts = f"2024-11-04T14:31:{id_ % 60:02d}Z"
    return {"id": id_, "chat_id": 5, "author_id": 2, "content": content, "revision": revision, "ts": ts}


def an_event(name: str, sequence: int, data: Any) -> dict[str, Any]:
    return {"event": name, "chat_id": 5, "sequence": sequence, "data": data}


def a_member(person: dict[str, Any], count: int, role: str = "member", **more: Any) -> dict[str, Any]:
    return {"chat_id": 5, "user": person, "role": role, "participants_count": count, "chat": None, **more}


def a_page(*messages: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    return {"messages": messages, "has_more": has_more}


def a_resumed_chat(**changed: Any) -> dict[str, Any]:
    chat = {"id": 5, "sequence": 3, "unread_count": 0, "read_up_to": None, "others_read_up_to": None}
    return {**chat, **changed}


def connected(client: Client, log: str = LOG) -> object:
    """The `resume` frame with which a client responds to `hello`."""
    (effect,) = client.receive({"event": "hello", "data": {"user": ALICE, "log": log}})
    assert isinstance(effect, SendFrame)
    return effect.frame


@pytest.fixture
def client() -> Client:
    """Alice's client, live, with one chat and no page of its history."""
    client = Client()
    connected(client)
    client.receive({"event": "chat.created", "chat_id": 5, "sequence": 3, "data": a_chat()})
    client.receive({"event": "resumed", "data": {"chats": [], "users": []}})
    return client


def the_chat(client: Client) -> HeldChat:
    return client.chats[5]


def opened(client: Client) -> Fetch:
    """The newest page of the chat, which the client asks for."""
    (fetch,) = client.open_chat(5)
    assert fetch == NEWEST_PAGE
    return fetch


def texts(client: Client) -> list[str | None]:
    """The messages that the client holds of the chat, newest first."""
    return [message["content"] for message in the_chat(client).history]


class TestConnecting:
    """On every connection the client says what it holds."""

    def test_new(self) -> None:
        """A new client holds nothing, and is live once everything has arrived."""
        client = Client()
        assert connected(client) == {"event": "resume", "data": {"log": LOG, "chats": {}}}
        assert not client.is_live
        client.receive({"event": "resumed", "data": {"chats": [], "users": []}})
        assert client.is_live

    def test_hidden_events(self, client: Client) -> None:
        """`resumed` says how far each chat is, events that the reader may not see included."""
        positions = [a_resumed_chat(sequence=4), a_resumed_chat(id=6, sequence=1)]
        client.receive({"event": "resumed", "data": {"chats": positions, "users": []}})
        assert connected(client) == {"event": "resume", "data": {"log": LOG, "chats": {"5": 4}}}

    def test_again(self, client: Client) -> None:
        """A client that connects again says up to which number it has each chat, and forgets who types."""
        client.receive({"event": "typing", "data": {"chat_id": 5, "user_id": 2, "is_typing": True}})
        client.receive({"event": "presence", "data": {"user_id": 2, "status": "online"}})
        client.disconnected()
        assert (client.is_live, client.typing, client.presence) == (False, set(), {})
        assert connected(client) == {"event": "resume", "data": {"log": LOG, "chats": {"5": 3}}}

    def test_other_log(self, client: Client) -> None:
        """The numbers of another log mean nothing: the client begins anew."""
        assert connected(client, "another") == {"event": "resume", "data": {"log": "another", "chats": {}}}
        assert client.chats == {}

    def test_resync_required(self, client: Client) -> None:
        """A client that must start over connects again when the server says so."""
        effects = client.receive({"event": "resync_required", "data": {"retry_after": 7}})
        assert effects == (Reconnect(7.0),)
        assert connected(client) == {"event": "resume", "data": {"log": LOG, "chats": {}}}

    @pytest.mark.parametrize("name", ["keepalive", "acme.unknown"])
    def test_unknown(self, client: Client, name: str) -> None:
        """A frame without a number and with a name that the client does not know changes nothing."""
        before = the_chat(client).chat.copy()
        assert client.receive({"event": name, "data": {}}) == ()
        assert the_chat(client).chat == before


class TestHistory:
    """Messages are held without gaps, each in its newest state."""

    def test_page(self, client: Client) -> None:
        """A chat that is opened fetches its newest page once, and older pages as long as there are any."""
        assert client.older(5) == ()  # before the newest one
        newest = opened(client)
        assert client.open_chat(5) == ()  # it is on its way
        client.fetched(newest, a_page(a_message(9, 3, "b"), a_message(8, 2, "a"), has_more=True))
        assert client.open_chat(5) == ()
        (older,) = client.older(5)
        assert older == Fetch("/api/v1/messages?chat_id=5&limit=50&before_id=8", 5, 8)
        client.fetched(older, a_page(a_message(4, 1, "0")))
        assert texts(client) == ["b", "a", "0"]
        assert client.older(5) == ()
        assert client.open_chat(77) == client.older(77) == ()  # no chat of the client's

    def test_page_crosses_events(self, client: Client) -> None:
        """A page that is older than an event on the way does not undo the event."""
        newest = opened(client)
        client.receive(an_event("message.created", 4, a_message(10, 4, "new")))
        client.receive(an_event("message.updated", 5, a_message(10, 5, "edited")))
        client.fetched(newest, a_page(a_message(10, 4, "new"), a_message(9, 3, "old")))
        assert texts(client) == ["edited", "old"]

    def test_change_before_page(self, client: Client) -> None:
        """A change of a message arrives before the page that has the message in its older state."""
        client.receive(an_event("message.created", 4, a_message(10, 4)))
        newest = opened(client)
        client.receive(an_event("member.added", 5, a_member(CAROL, 101)))  # the chat is fetched, too
        client.receive(an_event("message.updated", 6, a_message(9, 6, "edited")))
        client.receive(an_event("message.updated", 7, a_message(2, 7, "edited")))
        client.fetched(newest, a_page(a_message(10, 4), a_message(9, 3), a_message(8, 2), has_more=True))
        assert texts(client) == ["Hello", "edited", "Hello"]
        (older,) = client.older(5)
        assert isinstance(older, Fetch)
        client.fetched(older, a_page(a_message(2, 8, "edited again")))
        assert texts(client)[-1] == "edited again"

    def test_fetched_chat_ahead_of_events(self, client: Client) -> None:
        """A fetched chat includes events that are on the way; each of them is still awaited."""
        client.fetched(opened(client), a_page(a_message(9, 3), has_more=True))
        (fetch,) = client.receive(an_event("member.added", 4, a_member(CAROL, 101)))
        assert isinstance(fetch, Fetch)
        ahead = a_chat(sequence=7, participants_count=101, last_message=a_message(12, 7), title="Saturday")
        client.fetched(fetch, ahead)
        assert connected(client) == {"event": "resume", "data": {"log": LOG, "chats": {"5": 4}}}
        client.receive(an_event("message.created", 5, a_message(10, 5)))
        client.receive(an_event("chat.updated", 6, {"id": 5, "title": "Friday night"}))
        client.receive(an_event("message.created", 7, a_message(12, 7)))
        assert [message["id"] for message in the_chat(client).history] == [12, 10, 9]
        assert the_chat(client).chat == ahead

    def test_page_within_events(self, client: Client) -> None:
        """Where events brought more than the page reaches back, older messages may exist."""
        newest = opened(client)
        client.receive(an_event("message.created", 4, a_message(10, 4)))
        client.receive(an_event("message.created", 5, a_message(11, 5)))
        client.fetched(newest, a_page(a_message(11, 5)))
        assert the_chat(client).has_older

    def test_events_behind_page(self, client: Client) -> None:
        """Events up to the state of a page repeat what the page has; the newest state stays."""
        newest = opened(client)
        client.fetched(newest, a_page(a_message(10, 5, "edited")))
        client.receive(an_event("message.created", 4, a_message(10, 4, "new")))
        assert texts(client) == ["edited"]
        client.receive(an_event("message.updated", 5, a_message(10, 5, "edited")))
        assert texts(client) == ["edited"]
        assert the_chat(client).chat["last_message"]["content"] == "edited"

    def test_old_message_changed(self, client: Client) -> None:
        """A change of a message before the oldest one that is held is not held, for it would leave a gap."""
        newest = opened(client)
        client.fetched(newest, a_page(a_message(9, 3), has_more=True))
        client.receive(an_event("message.created", 4, a_message(10, 4)))
        client.receive(an_event("message.updated", 5, a_message(2, 5)))
        assert [message["id"] for message in the_chat(client).history] == [10, 9]

    def test_replayed(self, client: Client) -> None:
        """A replayed event of a message that was changed since changes the message, and not the position."""
        client.receive(an_event("message.created", 4, a_message(10, 4, "new")))
        client.receive(an_event("message.created", 4, a_message(10, 6, "edited later")))
        assert (texts(client), the_chat(client).sequence) == (["edited later"], 4)

    def test_left_meanwhile(self, client: Client) -> None:
        """A response about a chat that was left changes nothing, even after the person joined again."""
        before = opened(client)
        client.receive(an_event("member.removed", 4, a_member(ALICE, 1)))
        client.fetched(before, a_page(a_message(9, 3)))
        assert client.chats == {}
        client.receive(an_event("member.added", 7, a_member(ALICE, 2, chat=a_chat(sequence=7))))
        newest = opened(client)
        client.fetched(before, a_page(a_message(9, 3)))
        assert texts(client) == []
        client.fetched(newest, a_page(a_message(11, 8, "since")))
        assert texts(client) == ["since"]

    @pytest.mark.parametrize("is_fetched", [True, False])
    def test_resync(self, client: Client, is_fetched: bool) -> None:
        """A chat with too many missed events begins anew; one that was open is fetched again."""
        newest = opened(client)
        if is_fetched:
            client.fetched(newest, a_page(a_message(9, 3)))
        chat = a_chat(sequence=5000, title="Saturday")
        assert client.receive(an_event("chat.resync", 5000, chat)) == (NEWEST_PAGE,)
        assert (the_chat(client).chat, texts(client)) == (chat, [])

    def test_resync_unopened(self, client: Client) -> None:
        """Where nobody had opened it, its history is not fetched."""
        assert client.receive(an_event("chat.resync", 5000, a_chat(sequence=5000))) == ()


class TestChats:
    """A chat and its members follow the events."""

    def test_message(self, client: Client) -> None:
        """A new message is the chat's last one and moves it to the top of the list."""
        client.receive(
            {"event": "chat.created", "chat_id": 6, "sequence": 1, "data": a_chat(id=6, sequence=1)}
        )
        assert [held.chat["id"] for held in client.latest_first()] == [6, 5]
        message = a_message(10, 4)
        client.receive(an_event("message.created", 4, message))
        chat = the_chat(client).chat
        assert (chat["last_message"], chat["updated_at"], chat["sequence"]) == (message, message["ts"], 4)
        assert [held.chat["id"] for held in client.latest_first()] == [5, 6]

    def test_created_again(self, client: Client) -> None:
        """A chat that arrives again counts unless it is older than the one that is held."""
        client.receive(an_event("chat.created", 2, a_chat(sequence=2, title="Thursday")))
        assert the_chat(client).chat["title"] == "Friday"
        client.receive(an_event("chat.created", 4, a_chat(sequence=4, title="Saturday")))
        assert the_chat(client).chat["title"] == "Saturday"

    def test_updated(self, client: Client) -> None:
        """A change of the chat counts once, and other numbers of the chat stay."""
        changed = {"id": 5, "title": "Saturday", "avatar_url": None, "history": "joined"}
        client.receive(an_event("chat.updated", 4, changed))
        assert the_chat(client).chat == a_chat(sequence=4, title="Saturday", history="joined")
        client.receive(an_event("chat.updated", 3, {**changed, "title": "Friday"}))
        assert the_chat(client).chat["title"] == "Saturday"

    def test_ended(self, client: Client) -> None:
        """A deleted chat is gone, and its later events mean nothing."""
        client.receive(an_event("chat.deleted", 4, {"id": 5, "deleted_by": 2}))
        client.receive(an_event("message.created", 5, a_message(10, 5)))
        assert client.chats == {}

    def test_members(self, client: Client) -> None:
        """People join at the end of the participants, and leave."""
        client.receive(an_event("member.added", 4, a_member(CAROL, 3)))
        assert the_chat(client).chat["participants"] == [ALICE, BOB, CAROL]
        client.receive(an_event("member.removed", 5, a_member(BOB, 2)))
        client.receive(an_event("member.updated", 6, a_member(CAROL, 2, "admin")))
        chat = the_chat(client).chat
        assert (chat["participants"], chat["participants_count"]) == ([ALICE, CAROL], 2)

    def test_own_membership(self, client: Client) -> None:
        """One's own role changes, one's own removal removes the chat, and joining again brings it anew."""
        client.receive(an_event("member.updated", 4, a_member(ALICE, 2, "admin")))
        assert the_chat(client).chat["my_role"] == "admin"
        client.receive(an_event("member.removed", 5, a_member(ALICE, 1)))
        assert client.chats == {}
        client.receive(an_event("member.added", 9, a_member(ALICE, 2, chat=a_chat(sequence=9))))
        assert the_chat(client).chat == a_chat(sequence=9)

    def test_large(self, client: Client) -> None:
        """Of a large chat the server selects the participants: the client fetches it again."""
        (fetch,) = client.receive(an_event("member.added", 4, a_member(CAROL, 101)))
        assert isinstance(fetch, Fetch)
        assert fetch == THE_CHAT
        fetched = a_chat(sequence=4, participants_count=101)
        client.fetched(fetch, fetched)
        assert the_chat(client).chat == fetched
        (fetch,) = client.receive(an_event("member.removed", 5, a_member(CAROL, 100)))
        assert isinstance(fetch, Fetch)
        (fetch,) = client.fetched(fetch, fetched)  # of before the removal: it is asked for again
        assert fetch == THE_CHAT
        assert the_chat(client).chat["participants_count"] == 100

    def test_fetched_too_early(self, client: Client) -> None:
        """A chat that was read before the last event of its members is fetched once more."""
        (fetch,) = client.receive(an_event("member.added", 4, a_member(CAROL, 3)))
        assert isinstance(fetch, Fetch)
        assert client.fetched(fetch, a_chat()) == (THE_CHAT,)
        fetched = a_chat(sequence=4, participants=[ALICE, BOB, CAROL], participants_count=3)
        assert client.fetched(fetch, fetched) == ()
        assert the_chat(client).chat == fetched

    def test_left_while_fetching(self, client: Client) -> None:
        """A chat that was left is awaited no more: it is fetched again if the user joins it again."""
        client.receive(an_event("member.added", 4, a_member(CAROL, 3)))
        client.receive(an_event("member.removed", 5, a_member(ALICE, 2)))
        client.receive(an_event("member.added", 6, a_member(ALICE, 3, chat=a_chat(sequence=6))))
        assert client.receive(an_event("member.removed", 7, a_member(CAROL, 2))) == (THE_CHAT,)

    @pytest.mark.parametrize("name", ["user.updated", "me.updated"])
    def test_person(self, client: Client, name: str) -> None:
        """A person's new name appears in all chats, and for oneself."""
        renamed = {**ALICE, "display_name": "Alicia"}
        client.receive({"event": name, "data": renamed})
        assert client.user == renamed
        assert the_chat(client).chat["participants"] == [renamed, BOB]
        client.receive({"event": name, "data": {**BOB, "display_name": "Robert"}})
        assert client.user == renamed

    def test_typing(self, client: Client) -> None:
        """Who types is known until they stop."""
        client.receive({"event": "typing", "data": {"chat_id": 5, "user_id": 2, "is_typing": True}})
        assert client.typing == {(5, 2)}
        client.receive({"event": "typing", "data": {"chat_id": 5, "user_id": 2, "is_typing": False}})
        assert client.typing == set()

    def test_presence(self) -> None:
        """The list of watched people is sent on every connection, once it is live; others are forgotten."""
        client = Client()
        assert client.watch([2, 3]) == ()
        resumed = {"event": "resumed", "data": {"chats": [], "users": []}}
        asked = SendFrame({"event": "watch", "data": {"user_ids": [2, 3]}})
        for _ in range(2):
            connected(client)
            assert client.receive(resumed) == (asked,)
            client.disconnected()
        client.receive(resumed)
        bob, carol = [{"user_id": id_, "status": "offline", "last_seen": None} for id_ in (2, 3)]
        for data in (bob, carol):
            client.receive({"event": "presence", "data": data})
        assert client.watch([3]) == (SendFrame({"event": "watch", "data": {"user_ids": [3]}}),)
        assert client.presence == {3: carol}
        assert client.watch([]) == (SendFrame({"event": "watch", "data": {"user_ids": []}}),)
        client.disconnected()
        assert client.receive(resumed) == ()

    def test_custom(self, client: Client) -> None:
        """An importer's event moves the position, and changes nothing else."""
        client.receive(an_event("acme.pinned", 4, {"message_id": 5}))
        assert the_chat(client).chat == a_chat(sequence=4)


def a_read(user_id: int, read_up_to: int, unread_count: int = 0, sequence: int = 3) -> dict[str, Any]:
    data = {"chat_id": 5, "user_id": user_id, "read_up_to": read_up_to, "message_ids": []}
    return {"event": "message.read", "data": {**data, "unread_count": unread_count, "sequence": sequence}}


def marks(client: Client) -> tuple[Any, ...]:
    """What the chat shows: the unread messages, one's own mark, and the others'."""
    names = ("unread_count", "read_up_to", "others_read_up_to")
    return tuple(the_chat(client).chat[name] for name in names)


class TestReadMarks:
    def test_sending(self, client: Client) -> None:
        """A message of another is unread, and read by its author; sending one reads all before it."""
        client.receive(an_event("message.created", 4, a_message(7, 4)))
        assert marks(client) == (1, None, 7)
        client.receive(an_event("message.created", 5, {**a_message(8, 5), "author_id": None}))
        assert marks(client) == (2, None, 7)
        client.receive(an_event("message.created", 6, {**a_message(9, 6), "author_id": 1}))
        assert marks(client) == (0, 9, 7)

    def test_read_by_another(self, client: Client) -> None:
        """The furthest mark of the others is shown, in a chat of at most 100 people."""
        client.receive(a_read(2, 7))
        client.receive(a_read(3, 6))
        assert marks(client) == (0, None, 7)
        the_chat(client).chat.update(participants_count=101, others_read_up_to=None)
        client.receive(a_read(2, 8))
        assert marks(client) == (0, None, None)

    def test_read_between_messages(self, client: Client) -> None:
        """What the server has not counted is counted, whichever of the frames comes first."""
        for number in (4, 5, 6):
            client.receive(an_event("message.created", number, a_message(number, number)))
        client.receive(a_read(1, 4, unread_count=1, sequence=5))
        assert marks(client) == (2, 4, 6)
        client.receive(a_read(1, 7, unread_count=1, sequence=8))
        assert marks(client) == (1, 7, 6)
        for number in (7, 8, 9):
            client.receive(an_event("message.created", number, a_message(number, number)))
        assert marks(client) == (2, 7, 9)

    def test_late(self, client: Client) -> None:
        """One's own mark does not move back, and the same mark again changes nothing."""
        client.receive(a_read(1, 7, unread_count=2, sequence=5))
        for late in (a_read(1, 6, unread_count=3, sequence=6), a_read(1, 7, unread_count=1, sequence=4)):
            client.receive(late)
            assert marks(client) == (2, 7, None)

    def test_chat_read_before(self, client: Client) -> None:
        """A chat that was read before the marks does not take them back; one of a later event does."""
        client.receive(a_read(1, 7, unread_count=2))
        client.receive(a_read(2, 8))
        client.receive({"event": "chat.resync", "chat_id": 5, "sequence": 3, "data": a_chat()})
        assert marks(client) == (2, 7, 8)
        client.receive({"event": "chat.resync", "chat_id": 5, "sequence": 4, "data": a_chat(sequence=4)})
        assert marks(client) == (0, None, None)

    def test_unknown_chat(self) -> None:
        """A mark may come before its chat, which was read before it."""
        client = Client()
        client.receive(a_read(2, 7))
        client.receive({"event": "chat.created", "chat_id": 5, "sequence": 3, "data": a_chat()})
        assert marks(client) == (0, None, 7)

    def test_resumed(self, client: Client) -> None:
        """`resumed` says what is true, also against a chat that is read before it and arrives after it."""
        resumed = a_resumed_chat(sequence=4, unread_count=3, read_up_to=7, others_read_up_to=8)
        client.receive({"event": "resumed", "data": {"chats": [resumed], "users": []}})
        assert marks(client) == (3, 7, 8)
        client.receive({"event": "chat.created", "chat_id": 5, "sequence": 4, "data": a_chat(sequence=4)})
        assert marks(client) == (3, 7, 8)
        client.receive({"event": "chat.created", "chat_id": 5, "sequence": 5, "data": a_chat(sequence=5)})
        client.receive({"event": "resumed", "data": {"chats": [resumed], "users": []}})
        assert marks(client) == (0, None, None)
