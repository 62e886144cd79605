"""Who is there, and who types."""

from adapters.http_api.endpoints import API, STRANGER_LIMITS, Cost, Endpoint, Limit, Per, Reads, Writes
from adapters.http_api.views import PresenceJson, presence_json
from messaging_core import operations
from messaging_core.commands import GetOwnPresence, GetPresence, ListTypists, ReportTyping, SendHeartbeat
from messaging_core.errors import ChatNotFound, IdempotencyKeyReused, NotAParticipant, UserNotFound
from messaging_core.ids import UserId


def user_ids(found: tuple[UserId, ...]) -> list[UserId]:
    return list(found)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{API}/presence/heartbeat",
        summary="I am there, without a socket, for 5 minutes",
        command=SendHeartbeat,
        does=Writes(operations.send_heartbeat),
        status=204,
        response=None,
        refusals=(IdempotencyKeyReused,),
    ),
    Endpoint(
        method="GET",
        path=f"{API}/presence/me",
        summary="Am I there, as others see it",
        command=GetOwnPresence,
        does=Reads(operations.get_own_presence, presence_json),
        response=PresenceJson,
    ),
    Endpoint(
        method="GET",
        path=f"{API}/presence/{{user_id}}",
        summary="Is a person there with whom I share a chat",
        command=GetPresence,
        does=Reads(operations.get_presence, presence_json),
        response=PresenceJson,
        refusals=(UserNotFound,),
        stranger_limits=STRANGER_LIMITS,
    ),
    Endpoint(
        method="POST",
        path=f"{API}/presence/typing",
        summary="Report that I type in a chat, or have stopped; forgotten after 10 s, so repeat it meanwhile",
        command=ReportTyping,
        does=Writes(operations.report_typing),
        status=204,
        response=None,
        refusals=(ChatNotFound, NotAParticipant, IdempotencyKeyReused),
        limits=(Limit("request_rate", Per.USER, (Cost.DELIVERIES,)),),
    ),
    Endpoint(
        method="GET",
        path=f"{API}/presence/typing/{{chat_id}}",
        summary="The ids of those who type in a chat of at most 100 people, without me",
        command=ListTypists,
        does=Reads(operations.list_typists, user_ids),
        response=list[UserId],
        refusals=(ChatNotFound, NotAParticipant),
    ),
)
