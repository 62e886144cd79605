"""Messages and their history."""

from attrs import evolve

from adapters.http_api.endpoints import API, Cost, Endpoint, Limit, Per, Reads, ReadsInParts, Writes
from adapters.http_api.views import MessageJson, PageJson, message_json, messages_json, page_json
from adapters.http_api.wire import encode, joined
from adapters.runtime.event_loop import next_turn
from adapters.runtime.messaging import Read, in_parts
from messaging_core import operations
from messaging_core.commands import DeleteMessage, EditMessage, ListMessages, SendMessage
from messaging_core.errors import (
    ChatNotFound,
    IdempotencyKeyReused,
    MessageAlreadyDeleted,
    MessageNotFound,
    NotAParticipant,
    NotTheAuthor,
)
from messaging_core.limits import Limits
from messaging_core.messages import check_page
from messaging_core.models import Message, Page
from messaging_core.operations import MESSAGES_AT_ONCE, Context, Query


def list_messages(command: ListMessages, context: Context) -> Query[Page | tuple[Message, ...]]:
    """A page by one query, or only its messages for the checklist's clients, which request no page.

    Raises `Invalid`.
    """
    query = operations.page_of_messages(command, context, check_page(command, context.limits))
    return query if _is_paged(command) else lambda reader: query(reader).messages


def page_or_array(found: Page | tuple[Message, ...]) -> PageJson | list[MessageJson]:
    return page_json(found) if isinstance(found, Page) else messages_json(found)


async def list_in_parts(command: ListMessages, context: Context, read: Read) -> bytes:
    """The same page as bytes, read and encoded in parts."""
    size = check_page(command, context.limits)
    [page] = [part async for part in in_parts(operations.page_in_parts(command, context, size), read)]
    parts = []
    for start in range(0, len(page.messages) or 1, MESSAGES_AT_ONCE):
        parts.append(encode(messages_json(page.messages[start : start + MESSAGES_AT_ONCE])))
        await next_turn()
    if not _is_paged(command):
        return joined(parts)
    head, _, tail = encode(page_json(evolve(page, messages=()))).partition(b"[]")
    return joined(parts, head, tail)


def is_large(command: ListMessages, limits: Limits) -> bool:
    """Whether the page is read in parts of a few megabytes, so that other requests run between them."""
    return (command.limit or limits.history_page) >= MESSAGES_AT_ONCE


def _is_paged(command: ListMessages) -> bool:
    return (command.limit, command.before_id, command.after_id, command.around_id) != (None,) * 4


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{API}/messages",
        summary="A chat's history, newest first: an array of 50, or with a limit or an anchor a page",
        command=ListMessages,
        does=ReadsInParts(list_in_parts, is_large, small=Reads(list_messages, page_or_array)),
        response=list[MessageJson] | PageJson,
        refusals=(ChatNotFound, NotAParticipant),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/messages",
        summary="Send a message to everybody in a chat",
        command=SendMessage,
        does=Writes(operations.send_message, message_json),
        status=201,
        response=MessageJson,
        refusals=(ChatNotFound, NotAParticipant, IdempotencyKeyReused),
        limits=(Limit("message_rate", Per.USER, (Cost.DELIVERIES,)),),
    ),
    Endpoint(
        method="PATCH",
        path=f"{API}/messages/{{message_id}}",
        summary="Change a message of mine; omitted fields stay, null removes a field",
        command=EditMessage,
        does=Writes(operations.edit_message, message_json),
        response=MessageJson,
        refusals=(
            MessageNotFound,
            NotAParticipant,
            NotTheAuthor,
            MessageAlreadyDeleted,
            IdempotencyKeyReused,
        ),
        limits=(Limit("message_rate", Per.USER, (Cost.DELIVERIES,)),),
    ),
    Endpoint(
        method="DELETE",
        path=f"{API}/messages/{{message_id}}",
        summary="Delete a message of mine, or any message as an admin of its group; its position stays",
        command=DeleteMessage,
        does=Writes(operations.delete_message),
        status=204,
        response=None,
        refusals=(MessageNotFound, NotAParticipant, NotTheAuthor, IdempotencyKeyReused),
        limits=(Limit("message_rate", Per.USER, (Cost.DELIVERIES,)),),
    ),
)
