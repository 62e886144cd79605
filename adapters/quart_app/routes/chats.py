"""Chats, each with its participants."""

from adapters.quart_app.endpoints import API, STRANGER_LIMITS, Cost, Endpoint, Limit, Per, Reads, Writes
from adapters.runtime import operations
from messaging_core.commands import CreateGroup, GetChat, ListChats, OpenDirectChat
from messaging_core.errors import (
    ChatNotFound,
    DirectChatWithSelf,
    IdempotencyKeyReused,
    NotAParticipant,
    UserNotFound,
)
from messaging_core.models import ChatView

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{API}/chats",
        summary="My chats, latest activity first",
        command=ListChats,
        does=Reads(operations.list_chats),
        answers=tuple[ChatView, ...],
    ),
    Endpoint(
        method="POST",
        path=f"{API}/chats",
        summary="Make a group, of which I am the owner",
        command=CreateGroup,
        does=Writes(operations.create_group),
        status=201,
        answers=ChatView,
        refusals=(IdempotencyKeyReused,),
        limits=(Limit("request_rate", Per.USER, (Cost.MEMBERS, Cost.ANSWER)),),
    ),
    Endpoint(
        method="GET",
        path=f"{API}/chats/{{chat_id}}",
        summary="One chat",
        command=GetChat,
        does=Reads(operations.get_chat),
        answers=ChatView,
        refusals=(ChatNotFound, NotAParticipant),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/chats/direct",
        summary="The direct chat with a person, made if there is none",
        command=OpenDirectChat,
        does=Writes(operations.open_direct_chat),
        answers=ChatView,
        refusals=(DirectChatWithSelf, UserNotFound, IdempotencyKeyReused),
        stranger_limits=STRANGER_LIMITS,
    ),
)
