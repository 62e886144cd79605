"""Messages and their history."""

from adapters.quart_app.endpoints import API, Cost, Endpoint, Limit, Per, Reads, Writes
from adapters.runtime import operations
from messaging_core.commands import DeleteMessage, EditMessage, ListMessages, SendMessage
from messaging_core.errors import (
    ChatNotFound,
    IdempotencyKeyReused,
    MessageAlreadyDeleted,
    MessageNotFound,
    NotAParticipant,
    NotTheAuthor,
)
from messaging_core.models import Message, Page


def page_or_array(command: ListMessages, page: Page) -> Page | tuple[Message, ...]:
    """The checklist's clients ask for no page and want a bare array."""
    paged = (command.limit, command.before_id, command.after_id, command.around_id) != (None,) * 4
    return page if paged else page.messages


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{API}/messages",
        summary="A chat's history, newest first: an array of 50, or with a limit or an anchor a page",
        command=ListMessages,
        does=Reads(operations.list_messages, page_or_array),
        answers=tuple[Message, ...] | Page,
        refusals=(ChatNotFound, NotAParticipant),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/messages",
        summary="Send a message to everybody in a chat",
        command=SendMessage,
        does=Writes(operations.send_message),
        status=201,
        answers=Message,
        refusals=(ChatNotFound, NotAParticipant, IdempotencyKeyReused),
        limits=(Limit("message_rate", Per.USER, (Cost.DELIVERIES,)),),
    ),
    Endpoint(
        method="PATCH",
        path=f"{API}/messages/{{message_id}}",
        summary="Change a message of mine; what is left out stays, null removes",
        command=EditMessage,
        does=Writes(operations.edit_message),
        answers=Message,
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
        summary="Take back a message of mine, or as an admin of its group anybody's; its place stays",
        command=DeleteMessage,
        does=Writes(operations.delete_message),
        status=204,
        answers=None,
        refusals=(MessageNotFound, NotAParticipant, NotTheAuthor, IdempotencyKeyReused),
        limits=(Limit("message_rate", Per.USER, (Cost.DELIVERIES,)),),
    ),
)
