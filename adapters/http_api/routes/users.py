"""People."""

from adapters.http_api.endpoints import API, STRANGER_LIMITS, Endpoint, Reads
from messaging_core import operations
from messaging_core.commands import FindUserByTag, GetOwnUser, GetUser
from messaging_core.errors import UserNotFound
from messaging_core.models import UserView

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{API}/users/me",
        summary="Who am I",
        command=GetOwnUser,
        does=Reads(operations.get_own_user),
        answers=UserView,
    ),
    Endpoint(
        method="GET",
        path=f"{API}/users/search",
        summary="Find the person with a tag, with or without @, in any case of letters",
        command=FindUserByTag,
        does=Reads(operations.find_user_by_tag),
        answers=UserView,
        refusals=(UserNotFound,),
    ),
    Endpoint(
        method="GET",
        path=f"{API}/users/{{user_id}}",
        summary="One person",
        command=GetUser,
        does=Reads(operations.get_user),
        answers=UserView,
        refusals=(UserNotFound,),
        stranger_limits=STRANGER_LIMITS,
    ),
)
