"""Operations and queries over the memory storage: what they read and decide."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from adapters.storage_memory import MemoryStorage
from messaging_core import operations
from messaging_core.commands import (
    CreateGroup,
    FindUserByTag,
    GetChat,
    GetOwnUser,
    GetUser,
    ListMessages,
    OpenDirectChat,
    RegisterUser,
    SendMessage,
)
from messaging_core.effects import (
    ChangeMessage,
    CloseSockets,
    Decision,
    StoreChat,
    StoreResponse,
    StoreUser,
)
from messaging_core.errors import (
    ChatNotFound,
    IdempotencyKeyReused,
    MessageNotFound,
    NotAParticipant,
    TooManyChats,
    UserNotFound,
)
from messaging_core.events import ChatCreated
from messaging_core.fanout import announce
from messaging_core.idempotency import IdempotentRequest, fingerprint
from messaging_core.ids import ChatId, MessageId, MessageIdOrZero, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.members import add_member, remove_member
from messaging_core.models import (
    Actor,
    Chat,
    ChatView,
    IdempotencyKey,
    Member,
    Message,
    MessageType,
    Resource,
    ResourceKind,
    Role,
    StoredResponse,
    User,
)
from messaging_core.operations import Context, Executed, Operation, knows
from messaging_core.ports import Transaction
from messaging_core.privacy import EmailVisibility, Privacy
from messaging_core.users import Registration

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
ALICE, BOB, CAROL, NOBODY = (UserId(number) for number in (1, 2, 3, 9))
CHAT, OTHER_CHAT = ChatId(1), ChatId(2)


MEMBERS = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in (ALICE, BOB))
CHAT_OF_TWO = Chat(CHAT, "Chat", False, NOW, MEMBERS, 0, NOW, None)


def context(user_id: UserId = ALICE, *, visibility: str = "everyone", **limits: Any) -> Context:
    privacy = Privacy(EmailVisibility(visibility))
    return Context(Actor(user_id, SessionId(user_id)), LATER, Limits(**limits), privacy)


@pytest.fixture
async def storage() -> MemoryStorage:
    """Alice, Bob and Carol; a direct chat of Alice and Bob, and a group of Bob's with Carol."""
    storage = MemoryStorage()

    def fill(tx: Transaction) -> None:
        for name in ("alice", "bob", "carol"):
            id_, email = tx.next_user_id(), f"{name}@test.com"
            tx.apply(StoreUser(User(id_, email, name.title(), name, None, NOW), f"hash of {name}", email))
        for people, is_group in (((ALICE, BOB), False), ((BOB, CAROL), True)):
            members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in people)
            tx.apply(StoreChat(Chat(tx.next_chat_id(), "Chat", is_group, NOW, members, 0, NOW, None)))

    await storage.transact(fill)
    return storage


async def carry_out(storage: MemoryStorage, operation: Operation[Any]) -> Decision[Any]:
    """Decide, and apply the storage effects; returns the decision."""

    def transaction(tx: Transaction) -> Decision[Any]:
        decision = operation(tx)
        operations.apply_decision(tx, decision)
        return decision

    return await storage.transact(transaction)


# --- users --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visibility", "viewer", "by_id", "by_tag"),
    [
        ("everyone", ALICE, {ALICE, BOB}, {ALICE, BOB, CAROL}),
        ("everyone", BOB, {ALICE, BOB, CAROL}, {ALICE, BOB, CAROL}),
        ("shared_chat", ALICE, {ALICE, BOB}, {ALICE, BOB}),
        ("shared_chat", BOB, {ALICE, BOB, CAROL}, {ALICE, BOB, CAROL}),
        ("self", BOB, {BOB}, {BOB}),
    ],
)
async def test_who_sees_an_e_mail(
    storage: MemoryStorage,
    visibility: str,
    viewer: UserId,
    by_id: set[UserId],
    by_tag: set[UserId],
) -> None:
    """By id, which anybody can count up, strangers see no e-mail; by tag the setting decides."""
    asked = context(viewer, visibility=visibility)
    me = await storage.read(operations.get_own_user(GetOwnUser(), asked))
    assert (me.id, me.email is not None) == (viewer, True)
    for user_id, name in ((ALICE, "alice"), (BOB, "bob"), (CAROL, "carol")):
        found = await storage.read(operations.get_user(GetUser(user_id), asked))
        assert (found.id, found.email is not None) == (user_id, user_id in by_id)
        found = await storage.read(operations.find_user_by_tag(FindUserByTag(f"@{name.upper()}"), asked))
        assert (found.id, found.email is not None) == (user_id, user_id in by_tag)
        assert await storage.read(knows(user_id, asked)) is (user_id == viewer or {viewer, user_id} != {1, 3})


async def test_an_unknown_user_is_not_found(storage: MemoryStorage) -> None:
    """An unknown id or tag is not found; a text that cannot be a tag is not looked up."""
    for query in (
        operations.get_user(GetUser(NOBODY), context()),
        operations.get_own_user(GetOwnUser(), context(NOBODY)),
        operations.find_user_by_tag(FindUserByTag("nobody"), context()),
        operations.find_user_by_tag(FindUserByTag("no tag"), context()),
    ):
        with pytest.raises(UserNotFound):
            await storage.read(query)
    assert await storage.read(knows(NOBODY, context())) is False
    storage.world._tables.tags["no tag"] = ALICE
    with pytest.raises(UserNotFound):
        await storage.read(operations.find_user_by_tag(FindUserByTag("no tag"), context()))


async def test_credentials_are_those_of_the_first_key_with_an_account(storage: MemoryStorage) -> None:
    """Both are None if no key has an account."""
    found, known_hash = await storage.read(
        operations.credentials(["no@test.com", "bob@test.com", "alice@test.com"])
    )
    assert found is not None
    assert (found.id, known_hash) == (BOB, "hash of bob")
    storage.world._tables.password_hashes.clear()
    assert await storage.read(operations.credentials(["no@test.com"])) == (None, None)


def test_a_registrations_fingerprint_omits_the_password() -> None:
    """Requests with a key are equal if e-mail, name and avatar are, whatever the password."""
    command = RegisterUser("a@test.com", "password123", "Alice", "https://cdn.example/a.png")

    def request(**changes: Any) -> IdempotentRequest:
        registration = Registration(evolve(command, **changes), ())
        return operations.registration_request(registration, path="/auth/register", key="k")

    assert request().key == IdempotencyKey(None, "POST", "/auth/register", "k")
    assert request(password="another password") == request()
    assert len(request().fingerprint) == 16
    for changes in ({"email": "b@test.com"}, {"display_name": "Bob"}, {"avatar_url": None}):
        assert request(**changes).fingerprint != request().fingerprint


# --- chats --------------------------------------------------------------------------------------------------


async def test_a_chat_is_shown_to_its_members(storage: MemoryStorage) -> None:
    """A member gets the chat with its participants; a non-member is refused."""
    shown = await storage.read(operations.get_chat(GetChat(CHAT), context(BOB, visibility="self")))
    assert [(person.id, person.email) for person in shown.participants] == [
        (ALICE, None),
        (BOB, "bob@test.com"),
    ]
    with pytest.raises(NotAParticipant):
        await storage.read(operations.get_chat(GetChat(CHAT), context(CAROL)))
    with pytest.raises(ChatNotFound):
        await storage.read(operations.get_chat(GetChat(ChatId(9)), context()))


async def test_a_large_chat_always_shows_the_reader(storage: MemoryStorage) -> None:
    """The reader is among the `participants_shown` participants; the count has all."""
    others = [UserId(number) for number in range(11, 22)]

    def fill(tx: Transaction) -> None:
        for user_id in others:
            tx.apply(StoreUser(User(user_id, f"{user_id}@", "", f"{user_id}", None, NOW), "", f"{user_id}@"))
        members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in (*others, CAROL))
        tx.apply(StoreChat(Chat(ChatId(9), "Large", True, NOW, members, 0, NOW, None)))

    await storage.transact(fill)
    asked = context(CAROL, participants_shown=10)
    shown = await storage.read(operations.get_chat(GetChat(ChatId(9)), asked))
    assert (len(shown.participants), shown.chat.member_count) == (10, 12)
    assert CAROL in {person.id for person in shown.participants}


async def test_an_existing_direct_chat_is_opened_again(storage: MemoryStorage) -> None:
    """Opening it again, from either side, counts against no quota and takes no identifier."""
    for user_id, other in ((ALICE, BOB), (BOB, ALICE)):
        opened = await carry_out(
            storage, operations.open_direct_chat(OpenDirectChat(other), context(user_id, chats_per_user=1))
        )
        assert (opened.result.id, opened.effects) == (CHAT, ())
    assert next(storage.world._numbers["chat"]) == 3


async def test_a_new_direct_chat_counts_against_its_creators_quota(storage: MemoryStorage) -> None:
    """With a quota of two, Alice, who has created one chat, and Carol, who has none, each create one more."""
    asked = context(ALICE, chats_per_user=2)
    opened = await carry_out(storage, operations.open_direct_chat(OpenDirectChat(CAROL), asked))
    assert opened.result.id == ChatId(3)
    with pytest.raises(TooManyChats):
        await carry_out(storage, operations.create_group(CreateGroup("Group", (BOB,)), asked))
    with pytest.raises(TooManyChats):
        await carry_out(
            storage, operations.open_direct_chat(OpenDirectChat(CAROL), context(BOB, chats_per_user=1))
        )


# --- idempotency --------------------------------------------------------------------------------------------

KEY = IdempotencyKey(ALICE, "POST", "/api/v1/messages", "k")
REQUEST = IdempotentRequest(KEY, fingerprint(b"command"))


def once(operation: Operation[Any], asked: Context | None = None, status: int = 201) -> Operation[Executed]:
    return operations.once_only(operation, REQUEST, status=status, context=asked or context())


def must_not_run(tx: Transaction) -> Decision[Any]:
    raise AssertionError("an operation was carried out twice")


def send(content: str = "Hello") -> Operation[Message]:
    return operations.send_message(SendMessage(CHAT, MessageType.TEXT, content), context())


async def test_the_first_request_stores_its_response(storage: MemoryStorage) -> None:
    """The response is stored in the same transaction, after the operation's effects."""
    plain = await storage.transact(send())
    storage.world._numbers["message"] = iter([plain.result.id])  # type: ignore[assignment]
    first = await carry_out(storage, once(send(), status=202))
    response = StoredResponse(
        KEY, REQUEST.fingerprint, 202, Resource(ResourceKind.MESSAGE, plain.result.id), LATER
    )
    assert first.result == Executed(plain.result, 202, False, people_reached=2)
    assert plain.result.id == MessageId(1)
    assert first.effects == (*plain.effects, StoreResponse(response))


async def test_a_replay_shows_the_current_message(storage: MemoryStorage) -> None:
    """A replay has the stored status and no effects; a reader without access gets a refusal as a value."""
    first = await carry_out(storage, once(send(), status=202))
    edited = evolve(first.result.result, content="Edited")
    await storage.transact(lambda tx: tx.apply(ChangeMessage(edited)))
    replay = await carry_out(storage, once(must_not_run))
    assert replay == Decision(Executed(edited, 202, True))
    stranger = (await carry_out(storage, once(must_not_run, context(CAROL)))).result
    assert isinstance(stranger.result, NotAParticipant)
    del storage.world._tables.messages[MessageId(1)]
    gone = (await carry_out(storage, once(must_not_run))).result
    assert (type(gone.result), gone.status, gone.replayed) == (MessageNotFound, 202, True)


async def test_a_replay_shows_a_chat_as_the_reader_sees_it(storage: MemoryStorage) -> None:
    """A replay applies the reader's current privacy; a non-member gets a refusal as a value."""
    create = operations.create_group(CreateGroup("Group", (BOB,)), context())
    first = await carry_out(storage, once(create))
    assert isinstance(first.result.result, ChatView)
    replay = (await carry_out(storage, once(must_not_run))).result
    assert replay == Executed(first.result.result, 201, True)
    replay = (await carry_out(storage, once(must_not_run, context(visibility="self")))).result
    assert [person.email for person in replay.result.participants] == ["alice@test.com", None]
    stranger = (await carry_out(storage, once(must_not_run, context(CAROL)))).result
    assert isinstance(stranger.result, NotAParticipant)
    del storage.world._tables.chats[first.result.result.id]
    assert isinstance((await carry_out(storage, once(must_not_run))).result.result, ChatNotFound)


async def test_a_replay_shows_a_user_or_no_body(storage: MemoryStorage) -> None:
    """A replay shows a user as the reader sees them; a response without a body stays without."""
    bob = await storage.read(lambda reader: reader.user(BOB))
    assert bob is not None
    await carry_out(storage, once(lambda tx: Decision(bob)))
    for visibility, email in (("everyone", "bob@test.com"), ("shared_chat", "bob@test.com"), ("self", None)):
        replay = (await carry_out(storage, once(must_not_run, context(visibility=visibility)))).result
        assert (replay.result.id, replay.result.email) == (BOB, email)
    del storage.world._tables.users[BOB]
    assert isinstance((await carry_out(storage, once(must_not_run))).result.result, UserNotFound)
    storage.world._tables.responses.clear()
    await carry_out(storage, once(lambda tx: Decision(None), status=204))
    assert (await carry_out(storage, once(must_not_run))).result == Executed(None, 204, True)


async def test_another_command_with_the_key_is_refused_while_it_lives(storage: MemoryStorage) -> None:
    """Another command with the key is refused, and carried out once the response has expired."""
    await carry_out(storage, once(send()))
    other = evolve(REQUEST, fingerprint=fingerprint(b"another command"))

    def again(asked: Context) -> Operation[Executed]:
        return operations.once_only(send("Another"), other, status=201, context=asked)

    with pytest.raises(IdempotencyKeyReused):
        await carry_out(storage, again(context()))
    late = evolve(context(), now=LATER + Limits().idempotency_ttl)
    assert (await carry_out(storage, again(late))).result.replayed is False


def test_a_decision_counts_the_recipients_of_its_events() -> None:
    """Each recipient counts once for each delivered event."""
    *_, one = announce(CHAT_OF_TWO, ChatCreated(CHAT_OF_TWO), now=NOW)
    close = CloseSockets(SessionId(1), "session_revoked")
    assert Decision(None, (close,)).people_reached() == 0
    assert Decision(None, (one, close, one)).people_reached() == 4


# --- what a member may not read -----------------------------------------------------------------------------


async def test_who_joined_later_reads_no_earlier_message(storage: MemoryStorage) -> None:
    """Pages in every direction, and stored responses, show what the caller may read, and nothing else."""
    say = SendMessage(OTHER_CHAT, MessageType.TEXT, "hello")
    request = IdempotentRequest(IdempotencyKey(CAROL, "POST", "/messages", "key"), b"f" * 16)

    def once(user_id: UserId) -> Operation[Executed]:
        sending = operations.send_message(say, context(user_id))
        return operations.once_only(sending, request, status=201, context=context(user_id))

    def membership(decide: Callable[[Chat | None], Decision[Chat]]) -> Operation[Chat]:
        return lambda tx: decide(tx.lock_chat(OTHER_CHAT))

    hidden = (await carry_out(storage, once(CAROL))).result.result
    await carry_out(storage, membership(lambda chat: remove_member(chat, CAROL, now=NOW)))
    await carry_out(storage, membership(lambda chat: add_member(chat, CAROL, reads_all=False, now=NOW)))
    shown = [
        (await carry_out(storage, operations.send_message(say, context(BOB)))).result.id for _ in range(3)
    ]
    for command, expected in (
        (ListMessages(OTHER_CHAT), shown[::-1]),
        (ListMessages(OTHER_CHAT, after_id=MessageIdOrZero(0)), shown[::-1]),
        (ListMessages(OTHER_CHAT, around_id=hidden.id), shown[::-1]),
        (ListMessages(OTHER_CHAT, around_id=shown[1]), shown[::-1]),
        (ListMessages(OTHER_CHAT, before_id=shown[0]), []),
    ):
        page = await storage.read(operations.page_of_messages(command, context(CAROL), 50))
        assert [message.id for message in page.messages] == expected
        assert not page.has_more
    everything = await storage.read(operations.page_of_messages(ListMessages(OTHER_CHAT), context(BOB), 50))
    assert [message.id for message in everything.messages] == [*shown[::-1], hidden.id]
    assert isinstance((await carry_out(storage, once(CAROL))).result.result, MessageNotFound)
