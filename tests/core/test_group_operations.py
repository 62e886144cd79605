"""Operations on groups over a `World`: what their results show, and what a replay of them shows."""

from datetime import UTC, datetime

import pytest

from messaging_core import operations
from messaging_core.avatars import ANY_HOST, NO_HOST, AvatarHosts
from messaging_core.commands import AddMembers, CreateGroup, GetChat, UpdateGroup
from messaging_core.effects import StoreUser
from messaging_core.errors import Invalid
from messaging_core.idempotency import IdempotentRequest
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, IdempotencyKey, User
from messaging_core.operations import Context
from messaging_core.operations.chats import view
from messaging_core.ports import Transaction
from messaging_core.privacy import Privacy
from messaging_core.world import World

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
PEOPLE = tuple(UserId(number) for number in range(1, 13))
ALICE, BOB, *OTHERS = PEOPLE
GROUP = ChatId(1)
URL = "https://example.com/a.png"


def context(user_id: UserId, *, hosts: AvatarHosts = ANY_HOST, shown: int = 1000) -> Context:
    limits = Limits(participants_shown=shown)
    return Context(Actor(user_id, SessionId(1)), NOW, limits, Privacy(avatar_hosts=hosts))


def add_people(tx: Transaction) -> None:
    for _ in PEOPLE:
        id_ = tx.next_user_id()
        email = f"{id_}@test.com"
        tx.apply(StoreUser(User(id_, email, f"Person {id_}", f"tag{id_}", None, NOW), "hash", email))


@pytest.fixture
def world() -> World:
    """Twelve people, and a group of eleven of them."""
    world = World()
    world.transact(add_people)
    world.do(operations.create_group(CreateGroup("Trip", PEOPLE[:11]), context(ALICE)))
    return world


@pytest.mark.parametrize("shown", [1000, 10], ids=["whole", "shortened"])
def test_an_avatar_on_another_host_is_hidden(world: World, shown: int) -> None:
    """A group's avatar is shown while its host is allowed, and cannot be set to another one."""
    command = UpdateGroup(GROUP, avatar_url=URL)
    with pytest.raises(Invalid, match="avatar_url"):
        world.do(operations.update_group(command, context(ALICE, hosts=NO_HOST)))
    world.do(operations.update_group(command, context(ALICE)))
    for hosts, expected in ((ANY_HOST, URL), (NO_HOST, None)):
        found = world.read(operations.get_chat(GetChat(GROUP), context(BOB, hosts=hosts, shown=shown)))
        assert found.chat.avatar_url == expected
        assert len(found.participants) == min(shown, 11)


def test_a_replay_about_members_needs_the_request(world: World) -> None:
    """The stored response does not name the chat: without `again`, which reads it, the replay fails."""
    command, asked = AddMembers(GROUP, PEOPLE[11]), context(ALICE)
    request = IdempotentRequest(IdempotencyKey(ALICE, "POST", "/chats/1/members", "k"), b"f" * 16)
    once = operations.once_only(operations.add_members(command, asked), request, status=201, context=asked)
    first, _ = world.do(once)
    again = operations.members_added(command, asked)
    replay, _ = world.do(
        operations.once_only(
            operations.add_members(command, asked), request, status=201, context=asked, again=again
        )
    )
    assert (replay.result, replay.replayed) == (first.result, True)
    with pytest.raises(TypeError, match="again"):
        world.do(once)


def test_a_chat_is_shown_to_its_members_only(world: World) -> None:
    """Showing a chat to somebody else is a fault of the program, whatever it has checked."""
    chat = world.read(lambda reader: reader.chat(GROUP))
    assert chat is not None
    with pytest.raises(TypeError, match="no member"):
        world.read(lambda reader: view(reader, chat, context(PEOPLE[11])))
