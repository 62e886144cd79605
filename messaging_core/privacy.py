"""What people see of each other: one decision for every response that shows a person."""

from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never, cast

from attrs import evolve, frozen

from messaging_core.avatars import ANY_HOST, AvatarHosts
from messaging_core.ids import UserId
from messaging_core.models import User, UserView


class EmailVisibility(StrEnum):
    """Who sees an e-mail address; its owner always does."""

    EVERYONE = "everyone"
    SHARED_CHAT = "shared_chat"
    """People who share a chat with its owner."""
    SELF = "self"
    """Only its owner."""


@frozen
class Privacy:
    """What a deployment shows of a person to other people."""

    email_visibility: EmailVisibility = EmailVisibility.EVERYONE
    avatar_hosts: AvatarHosts = ANY_HOST

    def at(self, host: str | None) -> "Privacy":
        """The rules for a request that is addressed to `host`."""
        return evolve(self, avatar_hosts=self.avatar_hosts.at(host)) if self.avatar_hosts.own else self

    def towards_strangers(self) -> "Privacy":
        """The rules for look-ups by id: callers who share no chat with the person see no e-mail."""
        if self.email_visibility is EmailVisibility.EVERYONE:
            return evolve(self, email_visibility=EmailVisibility.SHARED_CHAT)
        return self


def email_is_shown(owner: UserId, *, viewer: UserId, shares_chat: bool, visibility: EmailVisibility) -> bool:
    """Whether `viewer` sees the e-mail address of `owner`; `shares_chat`: whether the two share a chat."""
    match visibility:
        case EmailVisibility.EVERYONE:
            return True
        case EmailVisibility.SHARED_CHAT:
            return shares_chat or viewer == owner
        case EmailVisibility.SELF:
            return viewer == owner
        case _:
            assert_never(visibility)


def shown(user: User, *, viewer: UserId, shares_chat: bool, privacy: Privacy) -> UserView:
    """The user as `viewer` sees them."""
    visibility = privacy.email_visibility
    email_shown = email_is_shown(user.id, viewer=viewer, shares_chat=shares_chat, visibility=visibility)
    return _view(user, user.email if email_shown else None, privacy.avatar_hosts)


def participants_shown(
    users: Mapping[UserId, User], *, viewer: UserId, privacy: Privacy
) -> Mapping[UserId, UserView]:
    """People in chats of `viewer`, as `viewer` sees them."""
    hides_emails = privacy.email_visibility is EmailVisibility.SELF
    hosts = privacy.avatar_hosts
    if not hides_emails and hosts.everywhere:
        # Nothing is hidden, and a User has the fields of a UserView: copies would take longer than the rest
        # of a long list.
        return cast("Mapping[UserId, UserView]", users)
    return {
        user_id: _view(user, None if hides_emails and user_id != viewer else user.email, hosts)
        for user_id, user in users.items()
    }


def _view(user: User, email: str | None, hosts: AvatarHosts) -> UserView:
    avatar_url = user.avatar_url
    if avatar_url is not None and not hosts.admits(avatar_url):
        avatar_url = None
    return UserView(user.id, email, user.display_name, user.tag, avatar_url, user.created_at)
