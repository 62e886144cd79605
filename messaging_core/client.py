"""The client's end of profile 2: a reducer of frames and responses into what a client shows.

It performs no I/O. Parsed frames and the bodies of responses go in; the state changes, and effects come out:
frames to send on the socket, and paths to fetch. So a bot, a test and a user interface share it.

    client = Client()
    effects = client.receive(frame)             # of each frame of the socket, in order
    effects = client.open_chat(5)               # `Fetch("/api/v1/messages?chat_id=5&limit=50", …)`
    effects = client.fetched(fetch, body)       # the response to a `Fetch`, with the status 200
    client.chats[5].chat["title"], client.chats[5].history

On every connection, with `profile=2&resume=1`, the server's `hello` comes first; the client responds with the
positions that it holds, and receives what it has missed. A client without a state receives all its chats in
the same way. Reconnect with the same `Client` after a connection is lost.

Objects are the JSON of the API, unchanged, so that a key which this version does not know is kept. Two
numbers decide what is newer: a chat's `sequence`, up to which the chat is true, and a message's `revision`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import Factory, define, frozen

Json = Mapping[str, Any]

API: Final = "/api/v1"
HISTORY_PAGE: Final = 50
"""Messages in a page of history that the client fetches."""
MESSAGE_EVENTS: Final = frozenset({"message.created", "message.updated", "message.deleted"})
PARTICIPANTS_HELD: Final = 100
"""In a larger chat the server selects the participants that it shows, so the client fetches the chat."""


# --- effects ------------------------------------------------------------------------------------------------


@frozen
class SendFrame:
    """Send this frame, as JSON, on the socket."""

    frame: Json


@frozen
class Fetch:
    """Send `GET path`, and pass this object with the response to `Client.fetched`; repeat it if it fails."""

    path: str
    chat_id: int
    """The chat that it is about."""
    older_than: int | None = None
    """The message before which a page of history ends; None for the newest page, or for a chat."""


@frozen
class Reconnect:
    """Close the socket and connect again after so many seconds."""

    after: float


ClientEffect = SendFrame | Fetch | Reconnect


# --- the state ----------------------------------------------------------------------------------------------


@define
class HeldChat:
    """A chat as its client knows it."""

    chat: dict[str, Any]
    """The API's Chat."""
    messages: dict[int, Json] = Factory(dict)
    """Its messages by id, without gaps from the oldest that is held to the newest."""
    has_older: bool | None = None
    """Whether messages before the oldest one exist; None until a page of its history was fetched."""
    position: int = 0
    """The number up to which every event has arrived. A chat that was fetched may be ahead of it."""
    unplaced: dict[int, Json] = Factory(dict)
    """Changed messages that are not held, by id: a page on its way may have them in an older state."""
    counted_from: int = 0
    """The number of the log up to which the server has counted the unread messages."""
    counted: list[tuple[int, int]] = Factory(list)
    """The unread messages after it: the numbers of their creations, and their ids."""

    @property
    def sequence(self) -> int:
        """The number of the last event that the chat includes: its position."""
        number: int = self.chat["sequence"]
        return number

    @property
    def history(self) -> tuple[Json, ...]:
        """The messages held, newest first."""
        return tuple([self.messages[id_] for id_ in sorted(self.messages, reverse=True)])


@define
class Client:
    """The state of one client, which outlives its connections."""

    user: Json | None = None
    """Oneself, from `hello`."""
    log: str | None = None
    """The incarnation of the log whose numbers the client holds."""
    chats: dict[int, HeldChat] = Factory(dict)
    """One's chats by id."""
    is_live: bool = False
    """Whether everything that was missed has arrived, so that the next events are live ones."""
    typing: set[tuple[int, int]] = Factory(set)
    """Who types where: a chat's id, and a person's."""
    presence: dict[int, Json] = Factory(dict)
    """What is known of the people whom the socket watches, by id."""
    watched: tuple[int, ...] = ()
    """The people whom it watches, on every connection."""
    _reads: dict[int, dict[int, Json]] = Factory(dict)
    """The last `message.read` of each person in each chat, under 0 what `resumed` has said of the others.

    A chat that was fetched before them may arrive after them.
    """
    _wanted: dict[str, Fetch] = Factory(dict)
    """What was asked for and has not arrived, by path."""

    # --- what the user does ---

    def open_chat(self, chat_id: int) -> tuple[ClientEffect, ...]:
        """Fetch the newest page of a chat's history, unless the client holds it."""
        held = self.chats.get(chat_id)
        if held is None or held.has_older is not None:
            return ()
        return self._fetch(_page(chat_id))

    def older(self, chat_id: int) -> tuple[ClientEffect, ...]:
        """Fetch the page of history before the oldest message that is held, if there is one."""
        held = self.chats.get(chat_id)
        if held is None or not held.has_older:
            return ()
        return self._fetch(_page(chat_id, min(held.messages)))

    def watch(self, user_ids: Iterable[int]) -> tuple[ClientEffect, ...]:
        """Watch the presence of these people, at most 100, and of nobody else."""
        self.watched = tuple(user_ids)
        self.presence = {id_: known for id_, known in self.presence.items() if id_ in self.watched}
        return self._watch() if self.is_live else ()

    def latest_first(self) -> list[HeldChat]:
        """The chats in the order of a list: latest activity first."""
        return sorted(self.chats.values(), key=_activity, reverse=True)

    # --- the connection ---

    def disconnected(self) -> None:
        """Note that the socket is closed: who types and who is online is unknown until the next one opens."""
        self.is_live = False
        self.typing.clear()
        self.presence.clear()

    def receive(self, frame: Json) -> tuple[ClientEffect, ...]:
        """Apply a frame of the socket; a frame of an unknown name changes nothing."""
        data = frame["data"]
        match frame["event"]:
            case "hello":
                return self._hello(data)
            case "resumed":
                return self._resumed(data)
            case "resync_required":
                self._forget()
                return (Reconnect(float(data["retry_after"])),)
            case "chat.resync":
                return self._resync(data)
            case "chat.created":
                self._hold(data)
            case "member.added" if data["chat"] is not None:
                self._hold(data["chat"])
            case _:
                return self._fold(frame)
        return ()

    def _hello(self, data: Json) -> tuple[ClientEffect, ...]:
        if self.log != data["log"]:
            self._forget()
        self.user, self.log = data["user"], data["log"]
        positions = {str(chat_id): held.position for chat_id, held in self.chats.items()}
        return (SendFrame({"event": "resume", "data": {"log": self.log, "chats": positions}}),)

    def _resumed(self, data: Json) -> tuple[ClientEffect, ...]:
        """Move each position past the events that this reader may not see."""
        self.is_live = True
        for chat in data["chats"]:
            held = self.chats.get(chat["id"])
            if held is None:
                continue
            held.position = max(held.position, chat["sequence"])
            if chat["sequence"] >= held.sequence:
                marks = ("sequence", "unread_count", "read_up_to", "others_read_up_to")
                held.chat |= {key: chat[key] for key in marks}
                held.counted_from, held.counted = chat["sequence"], []
                others = {"user_id": 0, "read_up_to": chat["others_read_up_to"] or 0}
                own = {**chat, "user_id": self._own_id}
                self._reads[chat["id"]] = {0: {**chat, **others}, self._own_id: own}
        return self._watch() if self.watched else ()

    def _watch(self) -> tuple[ClientEffect, ...]:
        return (SendFrame({"event": "watch", "data": {"user_ids": list(self.watched)}}),)

    def _forget(self) -> None:
        self.chats.clear()
        self._reads.clear()
        self._wanted.clear()
        self.log = None
        self.is_live = False

    # --- responses ---

    def fetched(self, fetch: Fetch, body: Any) -> tuple[ClientEffect, ...]:
        """Apply the body of a response to a `Fetch`; one about a chat that was left changes nothing."""
        held = self.chats.get(fetch.chat_id)
        if held is None or self._wanted.get(fetch.path) is not fetch:
            return ()
        del self._wanted[fetch.path]
        if "messages" in body:
            self._merge(held, body)
        elif body["sequence"] >= held.sequence:
            self._replace(held, body)
        else:
            return self._fetch(fetch)  # events have overtaken the response
        return ()

    def _fetch(self, fetch: Fetch) -> tuple[ClientEffect, ...]:
        if fetch.path in self._wanted:
            return ()
        self._wanted[fetch.path] = fetch
        return (fetch,)

    def _is_fetching(self, held: HeldChat) -> bool:
        return any(fetch.chat_id == held.chat["id"] for fetch in self._wanted.values())

    def _drop(self, chat_id: int) -> bool:
        """Forget a chat, and what was asked for of it; whether its history was open."""
        held = self.chats.pop(chat_id, None)
        wanted = [path for path, fetch in self._wanted.items() if fetch.chat_id == chat_id]
        for path in wanted:
            del self._wanted[path]
        return bool(wanted) or (held is not None and held.has_older is not None)

    def _leave(self, chat_id: int) -> None:
        self._drop(chat_id)
        self._reads.pop(chat_id, None)

    def _merge(self, held: HeldChat, page: Json) -> None:
        """Add a page of history, whose messages may be older than those that events have brought since."""
        oldest = min(held.messages, default=None)
        for message in page["messages"]:
            _keep(held, message)
            if message["id"] in held.unplaced:
                _keep(held, held.unplaced[message["id"]])
        if not self._is_fetching(held):
            held.unplaced.clear()
        found = [message["id"] for message in page["messages"]]
        reaches_back = oldest is None or not found or min(found) <= oldest
        held.has_older = page["has_more"] if reaches_back else True

    # --- events ---

    def _hold(self, chat: Json) -> None:
        held = self.chats.get(chat["id"])
        if held is None:
            held = self.chats[chat["id"]] = HeldChat(dict(chat))
        held.position = max(held.position, chat["sequence"])
        if chat["sequence"] >= held.sequence:
            self._replace(held, chat)

    def _replace(self, held: HeldChat, chat: Json) -> None:
        """Show a chat as the server has shown it, with the marks that are known since."""
        held.chat = dict(chat)
        held.counted_from, held.counted = chat["sequence"], []
        for read in self._reads.get(chat["id"], {}).values():
            if read["sequence"] >= chat["sequence"]:
                self._read(held, read)

    def _resync(self, chat: Json) -> tuple[ClientEffect, ...]:
        """Begin a chat anew; its history is fetched again if the user had opened it."""
        was_open = self._drop(chat["id"])
        self._hold(chat)
        return self._fetch(_page(chat["id"])) if was_open else ()

    def _fold(self, frame: Json) -> tuple[ClientEffect, ...]:
        """Apply an event of a chat's log, or an ephemeral one."""
        data = frame["data"]
        if "sequence" not in frame:
            self._fold_ephemeral(frame["event"], data)
            return ()
        held = self.chats.get(frame["chat_id"])
        if held is None:
            return ()
        number, name = frame["sequence"], frame["event"]
        if number <= held.position:
            if name in MESSAGE_EVENTS:
                self._message(held, name, data)
            return ()
        held.position = number
        is_included = number <= held.sequence  # in the chat that was fetched
        held.chat["sequence"] = max(number, held.sequence)
        return self._apply(held, frame, is_included=is_included)

    def _apply(self, held: HeldChat, frame: Json, *, is_included: bool) -> tuple[ClientEffect, ...]:
        name, number, data = frame["event"], frame["sequence"], frame["data"]
        match name:
            case "message.created" | "message.updated" | "message.deleted":
                self._message(held, name, data)
                if name == "message.created" and not is_included:
                    held.chat["updated_at"] = data["ts"]
                    self._count(held, number, data)
            case "chat.updated" if not is_included:
                held.chat |= {key: value for key, value in data.items() if key in held.chat}
            case "chat.deleted":
                self._leave(frame["chat_id"])
            case "member.removed" if data["user"]["id"] == self._own_id:
                self._leave(frame["chat_id"])
            case "member.added" | "member.updated" | "member.removed" if not is_included:
                return self._member(held, name, data)
        return ()

    def _message(self, held: HeldChat, name: str, message: Json) -> None:
        oldest = min(held.messages, default=None)
        is_in_range = name == "message.created" if oldest is None else message["id"] >= oldest
        if is_in_range or held.has_older is False:
            _keep(held, message)
            message = held.messages[message["id"]]
        elif self._is_fetching(held):
            held.unplaced[message["id"]] = message
        last = held.chat["last_message"]
        if last is None or (last["id"], last["revision"]) < (message["id"], message["revision"]):
            held.chat["last_message"] = message

    def _member(self, held: HeldChat, name: str, data: Json) -> tuple[ClientEffect, ...]:
        chat, person = held.chat, data["user"]
        if person["id"] == self._own_id:
            chat["my_role"] = data["role"]
        selected = max(chat["participants_count"], data["participants_count"]) > PARTICIPANTS_HELD
        chat["participants_count"] = data["participants_count"]
        if selected:
            return self._fetch(Fetch(f"{API}/chats/{chat['id']}", chat["id"]))
        if name == "member.updated":
            return ()
        others = [each for each in chat["participants"] if each["id"] != person["id"]]
        chat["participants"] = [*others, person] if name == "member.added" else others
        # How far the others have read depends on who they are.
        return self._fetch(Fetch(f"{API}/chats/{chat['id']}", chat["id"]))

    # --- read marks ---

    @property
    def _own_id(self) -> int:
        return 0 if self.user is None else self.user["id"]

    def _count(self, held: HeldChat, number: int, message: Json) -> None:
        """A new message is unread, and read by its author."""
        author_id, message_id = message["author_id"], message["id"]
        if author_id == self._own_id:
            self._mark(held, message_id, 0, number)
            return
        if number > held.counted_from and message_id > (held.chat["read_up_to"] or 0):
            held.counted.append((number, message_id))
            held.chat["unread_count"] += 1
        if author_id is not None:
            self._read_by_other(held, message_id)

    def _read(self, held: HeldChat, read: Json) -> None:
        if read["user_id"] == self._own_id:
            self._mark(held, read["read_up_to"] or 0, read["unread_count"], read["sequence"])
        else:
            self._read_by_other(held, read["read_up_to"])

    @staticmethod
    def _mark(held: HeldChat, read_up_to: int, unread_count: int, number: int) -> None:
        """Move one's own mark forward; `unread_count` is true up to `number` of the log."""
        known = held.chat["read_up_to"] or 0
        if (read_up_to, number) <= (known, held.counted_from):
            return
        held.counted_from = number
        held.counted = [each for each in held.counted if each[0] > number and each[1] > read_up_to]
        held.chat["read_up_to"] = read_up_to or None
        held.chat["unread_count"] = unread_count + len(held.counted)

    @staticmethod
    def _read_by_other(held: HeldChat, read_up_to: int) -> None:
        if held.chat["participants_count"] <= PARTICIPANTS_HELD:
            held.chat["others_read_up_to"] = max(held.chat["others_read_up_to"] or 0, read_up_to) or None

    def _fold_ephemeral(self, name: str, data: Json) -> None:
        match name:
            case "message.read":
                self._reads.setdefault(data["chat_id"], {})[data["user_id"]] = data
                held = self.chats.get(data["chat_id"])
                if held is not None:
                    self._read(held, data)
            case "typing":
                where = (data["chat_id"], data["user_id"])
                if data["is_typing"]:
                    self.typing.add(where)
                else:
                    self.typing.discard(where)
            case "presence":
                self.presence[data["user_id"]] = data
            case "user.updated" | "me.updated":
                self._person(data)

    def _person(self, person: Json) -> None:
        if self.user is not None and self.user["id"] == person["id"]:
            self.user = person
        for held in self.chats.values():
            people: Iterable[Json] = held.chat["participants"]
            held.chat["participants"] = [person if each["id"] == person["id"] else each for each in people]


def _page(chat_id: int, older_than: int | None = None) -> Fetch:
    anchor = "" if older_than is None else f"&before_id={older_than}"
    return Fetch(f"{API}/messages?chat_id={chat_id}&limit={HISTORY_PAGE}{anchor}", chat_id, older_than)


def _keep(held: HeldChat, message: Json) -> None:
    """Hold a message, unless the client has it as new or newer."""
    known = held.messages.get(message["id"])
    if known is None or message["revision"] > known["revision"]:
        held.messages[message["id"]] = message


def _activity(held: HeldChat) -> tuple[str, int, int]:
    last = held.chat["last_message"]
    return (held.chat["updated_at"], 0 if last is None else last["id"], held.chat["id"])
