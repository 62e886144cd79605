"""Refusals: each names the state because of which the domain refused a request.

A refusal carries a stable `code`, one sentence for its reader, and the fields at fault. It has no HTTP
status; a transport maps the class to one.
"""

import math
from typing import ClassVar

from attrs import frozen


@frozen
class FieldError:
    """One error in one field; `field` is a dotted path such as `member_ids.2`."""

    field: str
    code: str
    message: str


class Refused(Exception):
    """The domain refused the request; nothing was changed."""

    code: ClassVar[str] = "refused"
    sentence: ClassVar[str] = "The request was refused."

    def __init__(self, detail: str | None = None, *, errors: tuple[FieldError, ...] = ()) -> None:
        self.detail = detail or self.sentence
        self.errors = errors
        super().__init__(self.detail)


class Invalid(Refused):
    """A value has the wrong type, shape or size; `errors` names each."""

    code = "validation_failed"
    sentence = "The request has invalid fields."

    def __init__(self, *errors: FieldError) -> None:
        named = "; ".join(f"{error.field}: {error.message}" for error in errors)
        super().__init__(named or None, errors=errors)


class EmailTaken(Refused):
    code = "email_taken"
    sentence = "An account with this e-mail exists already. Log in, or use another e-mail."

    def __init__(self) -> None:
        super().__init__(errors=(FieldError("email", self.code, "is taken"),))


class InvalidCredentials(Refused):
    code = "invalid_credentials"
    sentence = "The e-mail or the password is wrong."


class Unauthenticated(Refused):
    """The caller is not authenticated; `code` is also the reason in a socket's close frame."""


class TokenMissing(Unauthenticated):
    code = "token_missing"
    sentence = "This needs an access token: send the header 'Authorization: Bearer <access_token>'."


class TokenInvalid(Unauthenticated):
    code = "token_invalid"
    sentence = "The access token was not issued by this server, or is malformed."


class TokenExpired(Unauthenticated):
    code = "token_expired"
    sentence = "The access token has expired. Refresh it and repeat the request."


class SessionRevoked(Unauthenticated):
    code = "session_revoked"
    sentence = "This session has ended. Log in again."


class RefreshTokenInvalid(Unauthenticated):
    code = "refresh_token_invalid"
    sentence = "The refresh token was not issued by this server, or its session has ended. Log in again."


class RefreshTokenExpired(Unauthenticated):
    code = "refresh_token_expired"
    sentence = "The refresh token has expired. Log in again."


class RefreshTokenReused(Unauthenticated):
    code = "refresh_token_reused"
    sentence = "An outdated refresh token was presented, so its session was ended. Log in again."


class UserNotFound(Refused):
    code = "user_not_found"
    sentence = "There is no such user."


class ChatNotFound(Refused):
    code = "chat_not_found"
    sentence = "There is no such chat."


class ChatTooLarge(Refused):
    """The chat has more people than those whose read marks are shown."""

    code = "chat_too_large"
    sentence = "The chat has too many people to show who has read it."

    def __init__(self, maximum: int) -> None:
        super().__init__(f"Who has read a chat is shown in chats of at most {maximum} people.")


class MessageNotFound(Refused):
    code = "message_not_found"
    sentence = "There is no such message."


class NotAParticipant(Refused):
    code = "not_a_participant"
    sentence = "You are not a participant of this chat."


class AlreadyAMember(Refused):
    code = "already_a_member"
    sentence = "This person is a member of the chat already."


class MemberNotFound(Refused):
    code = "member_not_found"
    sentence = "This person is not a member of the chat."


class InsufficientRole(Refused):
    """The caller's role in the group does not include the right; see `messaging_core.rights`."""

    code = "insufficient_role"
    sentence = "Your role in this group does not allow this."


class LastOwner(Refused):
    code = "last_owner"
    sentence = "You are the group's only owner. Make another member an owner first, or leave the group."


class NotAGroup(Refused):
    code = "not_a_group"
    sentence = "This is a direct chat. Only groups can be changed, deleted, joined or left."


class NotTheAuthor(Refused):
    code = "not_the_author"
    sentence = "Only the author of a message may change it."


class MessageAlreadyDeleted(Refused):
    code = "message_deleted"
    sentence = "The message was deleted and cannot be edited."


class DirectChatWithSelf(Refused):
    code = "direct_chat_with_self"
    sentence = "A direct chat needs two people: user_id is your own."


class TooManyChats(Refused):
    """The caller has created the maximum number of chats; chats that others created do not count."""

    code = "too_many_chats"
    sentence = "You have created as many chats as one user may. Another user can create this one."

    def __init__(self, maximum: int) -> None:
        super().__init__(
            f"You have created {maximum} chats, as many as one user may. Another user can create this one."
        )


class IdempotencyKeyInvalid(Refused):
    code = "idempotency_key_invalid"
    sentence = "Idempotency-Key must be 1 to 255 visible ASCII characters, bare or in double quotes."


class IdempotencyKeyReused(Refused):
    code = "idempotency_key_reused"
    sentence = "This Idempotency-Key was used with another request body. Use a new key for a new request."


class TooManyRequests(Refused):
    """The caller's bucket holds too few permits; `retry_after` is in seconds, above zero."""

    code = "too_many_requests"
    sentence = "Too many requests. Try again later."

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"Too many requests. Try again in {math.ceil(retry_after)} s.")
