"""An operation that is carried out once per Idempotency-Key."""

from typing import assert_never

from attrs import frozen

from messaging_core import chats, idempotency, messages, system_messages
from messaging_core import users as people
from messaging_core.effects import Decision
from messaging_core.errors import MessageNotFound, Refused
from messaging_core.idempotency import IdempotentRequest, Shown
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Resource, ResourceKind
from messaging_core.operations.base import Context, Operation, Query
from messaging_core.operations.chats import view as chat_view
from messaging_core.operations.users import view as user_view
from messaging_core.ports import Reader, Transaction
from messaging_core.positions import may_see


@frozen
class Executed:
    """The result of an operation, or of an earlier request with the same Idempotency-Key."""

    result: Shown | Refused
    """Of a replay: its current state, or the refusal for an actor who may no longer read it."""
    status: int
    replayed: bool
    people_reached: int = 0
    """The number of its deliveries."""


def once_only(
    operation: Operation[Shown],
    request: IdempotentRequest,
    *,
    status: int,
    context: Context,
    again: Query[Shown] | None = None,
) -> Operation[Executed]:
    """Runs `operation` unless its key has a stored response; stores the response in the same transaction.

    `again` reads what a replay shows, for a response whose resource alone does not say it: `MEMBER`.
    """

    def guarded(tx: Transaction) -> Decision[Executed]:
        stored = idempotency.replayed(
            tx.lock_stored_response(request.key), request, now=context.now, limits=context.limits
        )
        if stored is not None:
            result = _shown_now(tx, stored.resource, context, again)
            return Decision(Executed(result, stored.status, replayed=True))
        decision = operation(tx)
        response = idempotency.store(
            request, status=status, resource=idempotency.resource_of(decision.result), now=context.now
        )
        executed = Executed(decision.result, status, False, decision.people_reached())
        return Decision(executed, (*decision.effects, *response.effects))

    return guarded


def _shown_now(
    reader: Reader, resource: Resource | None, context: Context, again: Query[Shown] | None
) -> Shown | Refused:
    """The current state of a resource for the actor; a refusal to read it is returned, not raised."""
    if resource is None:
        return None
    actor = context.actor.user_id
    try:
        match resource.kind:
            case ResourceKind.MESSAGE:
                message = messages.found(reader.message(MessageId(resource.id)))
                chat, member = chats.reading(reader.chat(message.chat_id), actor)
                if not may_see(member.range, chat.sequence, message.sequence):
                    raise MessageNotFound
                return system_messages.shown((message,), reader.users)[0]
            case ResourceKind.CHAT:
                return chat_view(reader, chats.readable(reader.chat(ChatId(resource.id)), actor), context)
            case ResourceKind.USER:
                return user_view(reader, people.found(reader.user(UserId(resource.id))), context)
            case ResourceKind.MEMBER:
                if again is None:
                    raise TypeError("a response that shows a member needs `again`")
                return again(reader)
            case _:
                assert_never(resource.kind)
    except Refused as refusal:
        return refusal
