"""Accounts and sessions."""

from adapters.http_api.endpoints import (
    API,
    Auth,
    Endpoint,
    Handles,
    Limit,
    Per,
    Writes,
)
from adapters.http_api.exchange import REPLAYED, HttpRequest, HttpResponse, json_response
from adapters.http_api.views import SignedInJson, TokenPairJson, signed_in_json, token_pair_json
from adapters.http_api.wire import encode
from adapters.runtime import Messaging
from messaging_core import operations
from messaging_core.commands import LogIn, LogOut, RefreshTokens, RegisterUser
from messaging_core.errors import (
    EmailTaken,
    IdempotencyKeyReused,
    InvalidCredentials,
    RefreshTokenExpired,
    RefreshTokenInvalid,
    RefreshTokenReused,
)


async def register(command: RegisterUser, request: HttpRequest, messaging: Messaging) -> HttpResponse:
    registered = await messaging.register(
        command,
        device=_device(request),
        network=request.network,
        key=request.idempotency_key,
        path=request.path,
        privacy=messaging.privacy_at(request.host),
    )
    replayed = (REPLAYED,) if registered.replayed else ()
    return json_response(201, encode(signed_in_json(registered.result)), (*replayed, *NO_STORE))


async def log_in(command: LogIn, request: HttpRequest, messaging: Messaging) -> HttpResponse:
    privacy = messaging.privacy_at(request.host)
    signed_in = await messaging.log_in(
        command, device=_device(request), network=request.network, privacy=privacy
    )
    return json_response(200, encode(signed_in_json(signed_in)), NO_STORE)


async def refresh(command: RefreshTokens, request: HttpRequest, messaging: Messaging) -> HttpResponse:
    del request
    return json_response(200, encode(token_pair_json(await messaging.refresh(command))), NO_STORE)


NO_STORE = (("cache-control", "no-store"),)
"""RFC 6749 5.1: no cache may store a response that holds tokens."""


def _device(request: HttpRequest) -> str:
    return request.headers.get("user-agent", "")


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{API}/auth/register",
        summary="Create an account, with a tag from its display name, and sign in",
        command=RegisterUser,
        does=Handles(register, takes_key=True),
        status=201,
        response=SignedInJson,
        refusals=(EmailTaken, IdempotencyKeyReused),
        unavailable=("storage_unavailable", "busy"),
        auth=Auth.NONE,
        limits=(Limit("registration_rate", Per.ADDRESS),),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/auth/login",
        summary="Sign in: a new session",
        command=LogIn,
        does=Handles(log_in),
        response=SignedInJson,
        refusals=(InvalidCredentials,),
        unavailable=("storage_unavailable", "busy"),
        auth=Auth.NONE,
        limits=(Limit("login_address_rate", Per.ADDRESS), Limit("login_rate", Per.EMAIL_AND_ADDRESS)),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/auth/refresh",
        summary="Exchange a refresh token for the next pair; concurrent and repeated exchanges agree",
        command=RefreshTokens,
        does=Handles(refresh),
        response=TokenPairJson,
        refusals=(RefreshTokenInvalid, RefreshTokenExpired, RefreshTokenReused),
        auth=Auth.NONE,
        limits=(Limit("refresh_rate", Per.SESSION),),
    ),
    Endpoint(
        method="POST",
        path=f"{API}/auth/logout",
        summary="End this session and close its sockets",
        command=LogOut,
        does=Writes(operations.log_out),
        status=204,
        response=None,
    ),
)
