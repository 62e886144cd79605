"""Chats, each with its participants."""

from adapters.http_api.endpoints import (
    API,
    STRANGER_LIMITS,
    Cost,
    Endpoint,
    Limit,
    Per,
    Reads,
    ReadsInParts,
    Writes,
)
from adapters.http_api.views import (
    ChatPageJson,
    ChatViewJson,
    NewlyReadJson,
    ReadJson,
    chat_json,
    chats_json,
    newly_read_json,
    reads_json,
)
from adapters.http_api.wire import encode, joined
from adapters.runtime.messaging import Read, in_parts
from messaging_core import operations
from messaging_core.chats import is_paged
from messaging_core.commands import CreateGroup, GetChat, ListChats, ListReads, MarkRead, OpenDirectChat
from messaging_core.errors import (
    ChatNotFound,
    ChatTooLarge,
    DirectChatWithSelf,
    IdempotencyKeyReused,
    NotAParticipant,
    TooManyChats,
    UserNotFound,
)
from messaging_core.operations import Context


async def list_chats(command: ListChats, context: Context, read: Read) -> bytes:
    """A page, or a bare array for the checklist's clients; each part is encoded after it is read."""
    parts: list[bytes] = []
    next_cursor = None
    async for part in in_parts(operations.list_chats(command, context), read):
        parts.append(encode(chats_json(part.chats)))
        next_cursor = part.next_cursor
    if not is_paged(command):
        return joined(parts)
    return joined(parts, b'{"chats":', b',"next_cursor":%b}' % encode(next_cursor))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{API}/chats",
        summary="My chats, latest activity first: an array of 1,000, or with a limit or a cursor a page",
        command=ListChats,
        does=ReadsInParts(list_chats),
        response=list[ChatViewJson] | ChatPageJson,
    ),
    Endpoint(
        method="POST",
        path=f"{API}/chats",
        summary="Create a group; I become its owner",
        command=CreateGroup,
        does=Writes(operations.create_group, chat_json),
        status=201,
        response=ChatViewJson,
        refusals=(TooManyChats, IdempotencyKeyReused),
        limits=(
            Limit("group_rate", Per.USER, for_creations=True),
            Limit("group_people_rate", Per.USER, (Cost.MEMBERS,)),
            Limit("group_people_address_rate", Per.ADDRESS, (Cost.MEMBERS,)),
            Limit("request_rate", Per.USER, (Cost.MEMBERS, Cost.RESPONSE)),
        ),
    ),
    Endpoint(
        method="GET",
        path=f"{API}/chats/{{chat_id}}",
        summary="One chat",
        command=GetChat,
        does=Reads(operations.get_chat, chat_json),
        response=ChatViewJson,
        refusals=(ChatNotFound, NotAParticipant),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/chats/direct",
        summary="The direct chat with a person, created if there is none",
        command=OpenDirectChat,
        does=Writes(operations.open_direct_chat, chat_json),
        response=ChatViewJson,
        refusals=(DirectChatWithSelf, UserNotFound, TooManyChats, IdempotencyKeyReused),
        stranger_limits=STRANGER_LIMITS,
    ),
    Endpoint(
        method="POST",
        path=f"{API}/chats/{{chat_id}}/read",
        summary="I have read a chat up to a message, or all of it",
        command=MarkRead,
        does=Writes(operations.mark_read, newly_read_json),
        response=NewlyReadJson,
        refusals=(ChatNotFound, NotAParticipant, IdempotencyKeyReused),
        needs_body=False,
        limits=(Limit("request_rate", Per.USER, (Cost.DELIVERIES, Cost.RESPONSE)),),
    ),
    Endpoint(
        method="GET",
        path=f"{API}/chats/{{chat_id}}/reads",
        summary="How far each member has read a chat of at most 100 people",
        command=ListReads,
        does=Reads(operations.list_reads, reads_json),
        response=list[ReadJson],
        refusals=(ChatNotFound, NotAParticipant, ChatTooLarge),
    ),
)
