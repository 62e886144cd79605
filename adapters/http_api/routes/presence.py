"""Who types."""

from adapters.http_api.endpoints import API, Cost, Endpoint, Limit, Per, Reads, Writes
from messaging_core import operations
from messaging_core.commands import ListTypists, ReportTyping
from messaging_core.errors import ChatNotFound, IdempotencyKeyReused, NotAParticipant
from messaging_core.ids import UserId


def user_ids(found: tuple[UserId, ...]) -> list[UserId]:
    return list(found)


ENDPOINTS = (
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
