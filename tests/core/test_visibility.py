"""Nobody reads what is not theirs: a model of who may read which message, beside all that shows one."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from messaging_core import operations
from messaging_core.commands import (
    AddMembers,
    ChangeRole,
    CreateGroup,
    DeleteGroup,
    DeleteMessage,
    EditMessage,
    GetChat,
    ListChats,
    ListMessages,
    RegisterUser,
    RemoveMember,
    SendMessage,
    UpdateGroup,
)
from messaging_core.effects import Deliver
from messaging_core.errors import NotAParticipant
from messaging_core.events import MessageCreated, MessageDeleted, MessageUpdated
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, ChatView, History, MessageType, Role
from messaging_core.operations import Context, Operation, Part, Query, Reading
from messaging_core.privacy import Privacy
from messaging_core.users import register
from messaging_core.world import World

T = TypeVar("T")

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
PEOPLE = 4

people = st.integers(1, PEOPLE).map(UserId)
histories = st.sampled_from(History)


@define
class ModelChat:
    """A group as it must be seen: its messages, in order, and from which of them on each member reads."""

    history: History
    members: dict[UserId, int]
    messages: list[MessageId] = field(factory=list)

    def read_by(self, user_id: UserId) -> list[MessageId]:
        return self.messages[self.members[user_id] :] if user_id in self.members else []


class Visibility(RuleBasedStateMachine):
    """People join, leave, write, edit and delete; after each step everybody reads all that they can."""

    chats: Bundle[ChatId] = Bundle("chats")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.model: dict[ChatId, ModelChat] = {}
        self.texts = count(1)
        for number in range(1, PEOPLE + 1):
            self.world.do(
                lambda tx, name=f"person{number}": register(  # type: ignore[misc]
                    RegisterUser(f"{name}@test.com", "password123", name),
                    known=None,
                    tag=name,
                    user_id=tx.next_user_id(),
                    password_hash="",
                    now=NOW,
                )
            )

    # --- what happens ---

    def context(self, user_id: UserId) -> Context:
        return Context(Actor(user_id, SessionId(1)), NOW, LIMITS, Privacy())

    def do(self, user_id: UserId, operation: Callable[[Any, Context], Operation[T]], command: Any) -> T:
        """Carry out a command; each delivery reaches exactly those who may read what it shows."""
        result, deliveries = self.world.do(operation(command, self.context(user_id)))
        for delivery in deliveries:
            assert isinstance(delivery, Deliver)
            chat, event = self.model.get(delivery.entry.chat_id), delivery.event
            if isinstance(event, MessageCreated):
                assert chat is not None
                chat.messages.append(event.message.id)
            if isinstance(event, MessageCreated | MessageUpdated | MessageDeleted):
                assert chat is not None
                readers = {each for each in chat.members if event.message.id in chat.read_by(each)}
                assert set(delivery.audience) == readers
        return result

    @rule(target=chats, owner=people, others=st.lists(people, max_size=2), history=histories)
    def create(self, owner: UserId, others: list[UserId], history: History) -> ChatId:
        command = CreateGroup("A group", tuple(others), history=history)
        chat = self.do(owner, operations.create_group, command)
        self.model[chat.id] = ModelChat(history, dict.fromkeys((owner, *others), 0))
        return chat.id

    def owners(self, chat_id: ChatId) -> list[UserId]:
        chat = self.world.read(lambda reader: reader.chat(chat_id))
        assert chat is not None
        return [member.user_id for member in chat.members if member.role is Role.OWNER]

    def owner(self, chat_id: ChatId) -> UserId:
        return self.owners(chat_id)[0]

    @rule(chat_id=chats, user_id=people)
    def add(self, chat_id: ChatId, user_id: UserId) -> None:
        chat = self.model[chat_id]
        if user_id in chat.members:
            return
        owner = self.owner(chat_id)
        chat.members[user_id] = 0 if chat.history is History.ALL else len(chat.messages)
        self.do(owner, operations.add_members, AddMembers(chat_id, user_id))

    @rule(chat_id=chats, user_id=people, leaves=st.booleans())
    def remove(self, chat_id: ChatId, user_id: UserId, leaves: bool) -> None:
        chat = self.model[chat_id]
        if user_id not in chat.members or len(chat.members) == 1:
            return
        owners = self.owners(chat_id)  # whom nobody removes
        del chat.members[user_id]
        actor = user_id if leaves or user_id in owners else owners[0]
        self.do(actor, operations.remove_member, RemoveMember(chat_id, user_id))

    @rule(chat_id=chats, title=st.sampled_from(["One", "Two"]), history=histories)
    def update(self, chat_id: ChatId, title: str, history: History) -> None:
        self.do(self.owner(chat_id), operations.update_group, UpdateGroup(chat_id, title, history=history))
        self.model[chat_id].history = history

    @rule(chat_id=chats, user_id=people)
    def promote(self, chat_id: ChatId, user_id: UserId) -> None:
        if user_id in self.model[chat_id].members and user_id not in self.owners(chat_id):
            self.do(self.owner(chat_id), operations.change_role, ChangeRole(chat_id, user_id, Role.OWNER))

    @rule(chat_id=chats, user_id=people)
    def send(self, chat_id: ChatId, user_id: UserId) -> None:
        if user_id in self.model[chat_id].members:
            command = SendMessage(chat_id, MessageType.TEXT, f"text {next(self.texts)}")
            self.do(user_id, operations.send_message, command)

    @rule(chat_id=chats, number=st.integers(0, 20), deletes=st.booleans())
    def change(self, chat_id: ChatId, number: int, deletes: bool) -> None:
        """The author changes a message that they may still read."""
        chat = self.model[chat_id]
        texts = [each for each in chat.messages if self.author(each) in chat.members]
        if not texts:
            return
        message_id = texts[number % len(texts)]
        author = self.author(message_id)
        message = self.world.read(lambda reader: reader.message(message_id))
        if author is None or message is None or message_id not in chat.read_by(author):
            return
        if deletes:
            self.do(author, operations.delete_message, DeleteMessage(message_id))
        elif message.deleted_at is None:
            command = EditMessage(message_id, f"text {next(self.texts)}")
            self.do(author, operations.edit_message, command)

    def author(self, message_id: MessageId) -> UserId | None:
        message = self.world.read(lambda reader: reader.message(message_id))
        return None if message is None else message.author_id

    @precondition(lambda self: len(self.model) > 1)
    @rule(chat_id=consumes(chats))
    def delete(self, chat_id: ChatId) -> None:
        owner = self.owner(chat_id)
        self.do(owner, operations.delete_group, DeleteGroup(chat_id))
        del self.model[chat_id]

    # --- what everybody reads ---

    def part(self, reading: Reading[T]) -> T:
        """The only part of a reading."""
        result: Any = None
        while True:
            step = reading.send(result)
            if isinstance(step, Part):
                return step.value
            result = self.world.read(step)

    def read(self, user_id: UserId, query: Callable[[Any, Context], Query[T]], command: Any) -> T:
        return self.world.read(query(command, self.context(user_id)))

    @invariant()
    def everybody_reads_what_is_theirs(self) -> None:
        for user_id in map(UserId, range(1, PEOPLE + 1)):
            listed = self.part(operations.list_chats(ListChats(), self.context(user_id))).chats
            assert {each.id for each in listed} == {
                chat_id for chat_id, chat in self.model.items() if user_id in chat.members
            }
            for view in listed:
                self.reads(user_id, view)
            for chat_id in self.model.keys() - {each.id for each in listed}:
                with pytest.raises(NotAParticipant):
                    self.read(user_id, operations.get_chat, GetChat(chat_id))
                with pytest.raises(NotAParticipant):
                    self.page(user_id, ListMessages(chat_id))

    def reads(self, user_id: UserId, listed: ChatView) -> None:
        """Pages and last messages show what the model allows, and system messages have their sentences."""
        chat = self.model[listed.id]
        expected = chat.read_by(user_id)
        messages = self.page(user_id, ListMessages(listed.id, 200))
        assert [each.id for each in messages] == expected[::-1]
        assert all(each.content for each in messages if each.deleted_at is None)
        if chat.messages:
            around = self.page(user_id, ListMessages(listed.id, 200, around_id=chat.messages[0]))
            assert [each.id for each in around] == expected[::-1]
        for view in (listed, self.read(user_id, operations.get_chat, GetChat(listed.id))):
            assert view.last_message == (messages[0] if messages else None)

    def page(self, user_id: UserId, command: ListMessages) -> Any:
        context = self.context(user_id)
        whole = self.world.read(operations.page_of_messages(command, context, 200)).messages
        assert whole == self.part(operations.page_in_parts(command, context, 200)).messages
        return whole


TestVisibility = Visibility.TestCase
TestVisibility.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
