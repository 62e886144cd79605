"""People."""

from adapters.http_api.endpoints import API, STRANGER_LIMITS, Endpoint, Reads
from adapters.http_api.views import UserViewJson, user_json
from messaging_core import operations
from messaging_core.commands import FindUserByTag, GetOwnUser, GetUser
from messaging_core.errors import UserNotFound

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{API}/users/me",
        summary="Who am I",
        command=GetOwnUser,
        does=Reads(operations.get_own_user, user_json),
        response=UserViewJson,
    ),
    Endpoint(
        method="GET",
        path=f"{API}/users/search",
        summary="Find the person with a tag, with or without @, in any case of letters",
        command=FindUserByTag,
        does=Reads(operations.find_user_by_tag, user_json),
        response=UserViewJson,
        refusals=(UserNotFound,),
    ),
    Endpoint(
        method="GET",
        path=f"{API}/users/{{user_id}}",
        summary="One person",
        command=GetUser,
        does=Reads(operations.get_user, user_json),
        response=UserViewJson,
        refusals=(UserNotFound,),
        stranger_limits=STRANGER_LIMITS,
    ),
)
