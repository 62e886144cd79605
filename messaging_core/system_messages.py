"""Messages that the server writes into a group: who was added, removed, left, renamed it, or owns it now.

The stored message has ids and facts in its payload, and no content. The content, a plain English sentence, is
rendered from the people's current display names whenever the message is shown, so an erased name is gone.

| `event` | `actor_id` | `user_ids` | more |
|---|---|---|---|
| `member.added` | who added them | the people added | |
| `member.removed` | who removed them | the person removed | |
| `member.left` | the person who left | the same person | |
| `chat.renamed` | who renamed it | none | `title`: the new one |
| `owner.changed` | who made them an owner; null after the last owner left | the new owner | |
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve

from messaging_core.effects import AdvanceChat, Decision, Deliver, Effect
from messaging_core.events import MessageCreated
from messaging_core.fanout import announce
from messaging_core.ids import MessageId, UserId
from messaging_core.models import Chat, Message, MessageType, User

Users = Mapping[UserId, User]

NAMED = 3
"""People whom a sentence names; it counts the others."""
SOMEBODY = "Somebody"
"""The name of a person whose account is gone."""


def members_added(actor: UserId, user_ids: Collection[UserId]) -> dict[str, Any]:
    return {"event": "member.added", "actor_id": actor, "user_ids": [*user_ids]}


def member_removed(actor: UserId, user_id: UserId) -> dict[str, Any]:
    return {"event": "member.removed", "actor_id": actor, "user_ids": [user_id]}


def member_left(user_id: UserId) -> dict[str, Any]:
    return {"event": "member.left", "actor_id": user_id, "user_ids": [user_id]}


def chat_renamed(actor: UserId, title: str) -> dict[str, Any]:
    return {"event": "chat.renamed", "actor_id": actor, "user_ids": [], "title": title}


def owner_changed(actor: UserId | None, user_id: UserId) -> dict[str, Any]:
    return {"event": "owner.changed", "actor_id": actor, "user_ids": [user_id]}


def write(
    chat: Chat, facts: Mapping[str, Any], *, people: Users, message_id: MessageId, now: datetime
) -> Decision[Chat]:
    """The chat after one more event, a system message with these facts.

    It is stored without content, and delivered with the names of `people`, which holds those of `named`.
    """
    number = chat.sequence + 1
    message = Message(
        message_id, chat.id, None, MessageType.SYSTEM, None, facts, now, None, None, None, number, number
    )
    effects: list[Effect] = []
    after = chat
    for effect in announce(chat, MessageCreated(message), now=now):
        if isinstance(effect, AdvanceChat):
            after = effect.chat
        if isinstance(effect, Deliver):
            effects.append(evolve(effect, event=MessageCreated(rendered(message, people))))
        else:
            effects.append(effect)
    return Decision(after, tuple(effects))


def named(facts: Mapping[str, Any] | None) -> set[UserId]:
    """The people whose names a sentence needs."""
    facts = facts or {}
    return {user_id for user_id in (facts.get("actor_id"), *facts.get("user_ids", ())[:NAMED]) if user_id}


def shown(messages: Sequence[Message], users: Callable[[Collection[UserId]], Users]) -> Sequence[Message]:
    """The messages as they are shown; `users` looks up the people that system messages name, if any do."""
    system = [message for message in messages if message.type is MessageType.SYSTEM]
    if not system:
        return messages
    people = users(set().union(*[named(message.payload) for message in system]))
    return [rendered(message, people) for message in messages]


def rendered(message: Message, people: Users) -> Message:
    """The message as it is shown: a system message with its sentence, every other one as it is."""
    if message.type is not MessageType.SYSTEM:
        return message
    return evolve(message, content=_sentence(message.payload or {}, people))


def _sentence(facts: Mapping[str, Any], people: Users) -> str:
    def names(user_ids: Iterable[int]) -> list[str]:
        found = (people.get(UserId(user_id)) for user_id in user_ids)
        return [SOMEBODY if user is None else user.display_name for user in found]

    actor = SOMEBODY if facts.get("actor_id") is None else names([facts["actor_id"]])[0]
    user_ids: Sequence[int] = facts.get("user_ids", ())
    several = _listed(names(user_ids[:NAMED]), len(user_ids) - NAMED)
    match facts.get("event"):
        case "member.added":
            return f"{actor} added {several}."
        case "member.removed":
            return f"{actor} removed {several}."
        case "member.left":
            return f"{actor} left."
        case "chat.renamed":
            return f"{actor} renamed the group to “{facts.get('title')}”."
        case "owner.changed" if facts.get("actor_id") is None:
            return f"{several} is now an owner of the group."
        case "owner.changed":
            return f"{actor} made {several} an owner of the group."
        case _:
            return "The group was changed."


def _listed(names: Sequence[str], more: int) -> str:
    """`Bob`, `Bob and Carol`, `Bob, Carol, Dave and 7 others`."""
    if more > 0:
        names = [*names, "1 other" if more == 1 else f"{more} others"]
    *first, last = names or [SOMEBODY]
    return f"{', '.join(first)} and {last}" if first else last
