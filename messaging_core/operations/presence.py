"""Who types."""

from messaging_core import chats, presence
from messaging_core.commands import ListTypists, ReportTyping
from messaging_core.effects import Decision
from messaging_core.ids import UserId
from messaging_core.operations.base import Context, Operation, Query
from messaging_core.ports import Reader, Transaction


def report_typing(command: ReportTyping, context: Context) -> Operation[None]:
    """Raises `ChatNotFound`, then `NotAParticipant`."""

    def operation(tx: Transaction) -> Decision[None]:
        actor = context.actor.user_id
        chat = chats.readable(tx.chat(command.chat_id), actor)
        return presence.report_typing(command, chat, actor=actor, limits=context.limits)

    return operation


def list_typists(command: ListTypists, context: Context) -> Query[tuple[UserId, ...]]:
    """Who else types in a chat of the actor; raises `ChatNotFound`, then `NotAParticipant`."""
    typists = () if context.typists is None else context.typists.of_chat(command.chat_id, context.now)

    def query(reader: Reader) -> tuple[UserId, ...]:
        actor = context.actor.user_id
        chat = chats.readable(reader.chat(command.chat_id), actor)
        return presence.others_who_type(chat, typists, actor=actor)

    return query
