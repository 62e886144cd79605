"""People, as the actor sees them."""

from attrs import evolve

from messaging_core import privacy, users
from messaging_core.commands import FindUserByTag, GetOwnUser, GetUser
from messaging_core.ids import UserId
from messaging_core.models import User, UserView
from messaging_core.operations.base import Context, Query
from messaging_core.ports import Reader
from messaging_core.privacy import EmailVisibility


def get_own_user(command: GetOwnUser, context: Context) -> Query[UserView]:
    del command
    return lambda reader: view(reader, users.found(reader.user(context.actor.user_id)), context)


def get_user(command: GetUser, context: Context) -> Query[UserView]:
    """A person by id; since ids can be enumerated, strangers never see the e-mail."""
    strict = evolve(context, privacy=context.privacy.towards_strangers())
    return lambda reader: view(reader, users.found(reader.user(command.user_id)), strict)


def knows(user_id: UserId, context: Context) -> Query[bool]:
    """Whether the actor is this person or shares a chat with them; False where there is no such person."""
    viewer = context.actor.user_id
    return lambda reader: viewer == user_id or reader.shares_chat(viewer, user_id)


def find_user_by_tag(command: FindUserByTag, context: Context) -> Query[UserView]:
    tag = users.normalise_tag(command.tag)

    def query(reader: Reader) -> UserView:
        user = users.found(reader.user_by_tag(tag) if users.may_be_tag(tag) else None)
        return view(reader, user, context)

    return query


def view(reader: Reader, user: User, context: Context) -> UserView:
    """One person as the actor sees them; looks up whether the two share a chat only if that matters."""
    viewer = context.actor.user_id
    matters = context.privacy.email_visibility is EmailVisibility.SHARED_CHAT and viewer != user.id
    shares_chat = matters and reader.shares_chat(viewer, user.id)
    return privacy.shown(user, viewer=viewer, shares_chat=shares_chat, privacy=context.privacy)
