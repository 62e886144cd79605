"""Who sees which fields of a user: the whole table, and that every view of a user follows it."""

from itertools import product

import attrs
import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.ids import UserId
from messaging_core.models import User, UserView
from messaging_core.privacy import (
    EmailVisibility,
    Privacy,
    email_is_shown,
    participants_shown,
    shown,
)
from messaging_core.testing import strategies as values

OWNER, OTHER = UserId(1), UserId(2)
EVERYONE, SHARED_CHAT, SELF = EmailVisibility

SHOWN = {
    # visibility: the user, a user who shares a chat, a stranger
    EVERYONE: (True, True, True),
    SHARED_CHAT: (True, True, False),
    SELF: (True, False, False),
}
VIEWERS = ((OWNER, False), (OTHER, True), (OTHER, False))


@pytest.mark.parametrize("visibility", EmailVisibility)
def test_who_sees_an_email(visibility: EmailVisibility) -> None:
    """Users always see their own e-mail, and others' as the setting allows."""
    for (viewer, shares_chat), expected in zip(VIEWERS, SHOWN[visibility], strict=True):
        found = email_is_shown(OWNER, viewer=viewer, shares_chat=shares_chat, visibility=visibility)
        assert found is expected


def test_strangers_who_walk_ids_see_no_email() -> None:
    """A look-up by id shows a stranger no e-mail; otherwise the setting decides."""
    for visibility, shares_chat in product(EmailVisibility, (True, False)):
        strict = Privacy(visibility).towards_strangers().email_visibility
        for viewer in (OWNER, OTHER):
            sees = email_is_shown(OWNER, viewer=viewer, shares_chat=shares_chat, visibility=strict)
            usual = email_is_shown(OWNER, viewer=viewer, shares_chat=shares_chat, visibility=visibility)
            assert sees == (usual and (shares_chat or viewer == OWNER))


privacies = st.builds(Privacy, email_visibility=st.sampled_from(EmailVisibility))


@given(values.users, values.user_ids, st.booleans(), privacies)
def test_nothing_else_is_hidden(user: User, viewer: UserId, shares_chat: bool, privacy: Privacy) -> None:
    """A view has the user's keys in their order and their values; a hidden value is None."""
    view = shown(user, viewer=viewer, shares_chat=shares_chat, privacy=privacy)
    seen = email_is_shown(
        user.id, viewer=viewer, shares_chat=shares_chat, visibility=privacy.email_visibility
    )
    expected = {**asdict(user), "email": user.email if seen else None}
    assert list(asdict(view).items()) == list(expected.items())


@given(st.lists(values.users, max_size=5), privacies)
def test_participants_are_shown_as_users_who_share_a_chat(users: list[User], privacy: Privacy) -> None:
    """A list of participants shows the same of each user as a single view."""
    people = {user.id: user for user in users}
    viewers = [*people, UserId(99)]
    for viewer in viewers:
        views = participants_shown(people, viewer=viewer, privacy=privacy)
        assert views.keys() == people.keys()
        for user_id, user in people.items():
            alone = shown(user, viewer=viewer, shares_chat=True, privacy=privacy)
            assert asdict(views[user_id]) == asdict(alone)


def test_a_user_who_hides_nothing_is_their_own_view() -> None:
    """`participants_shown` may return users unchanged, because a view has the same fields."""
    assert [a.name for a in attrs.fields(User)] == [a.name for a in attrs.fields(UserView)]


@given(values.users)
def test_a_view_does_not_change_the_user(user: User) -> None:
    """Hiding affects the view only, and not the stored user that the next viewer gets."""
    before = evolve(user)
    participants_shown({user.id: user}, viewer=UserId(user.id + 1), privacy=Privacy(SELF))
    assert user == before
