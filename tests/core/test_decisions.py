"""A rule of every decision: it is a value that depends on its arguments alone."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.chats import create_group, open_direct_chat
from messaging_core.commands import AddMembers, ChangeRole, OpenDirectChat, RemoveMember, UpdateGroup
from messaging_core.effects import Decision, DeliveryEffect, StorageEffect
from messaging_core.errors import Refused
from messaging_core.groups import add_members, change_role, remove_member, update_group
from messaging_core.idempotency import store
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.messages import delete_message, edit_message, send_message
from messaging_core.models import Role, User
from messaging_core.testing import strategies as values
from messaging_core.tokens import access_claims, confirm, end_session, open_session, refresh_claims, rotate
from messaging_core.users import register

LIMITS = Limits()
PERSON = User(UserId(1), "a@test.com", "Alice", "alice", None, values.EPOCH)


@frozen
class DecisionCall:
    """A decision function with arguments."""

    function: Callable[..., Decision[Any]]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def outcome(self) -> object:
        try:
            decision = self.function(*self.arguments, **self.keywords)
        except Refused as refused:
            return type(refused), refused.code, refused.detail, refused.errors
        # A refusal as a result is an exception, which equals only itself, so compare its class.
        result = type(decision.result) if isinstance(decision.result, Refused) else decision.result
        return result, decision.effects


def call(
    function: Callable[..., Decision[Any]],
    *arguments: st.SearchStrategy[Any],
    **keywords: st.SearchStrategy[Any],
) -> st.SearchStrategy[DecisionCall]:
    return st.builds(DecisionCall, st.just(function), st.tuples(*arguments), st.fixed_dictionaries(keywords))


limits = st.just(LIMITS)
people = st.just(dict.fromkeys(map(UserId, range(1, 60)), PERSON))
some_groups = values.chats(is_group=True)
maybe_chats = st.none() | values.chats()
maybe_messages = st.none() | values.messages()
maybe_sessions = st.none() | values.sessions()
reasons = st.just("session_revoked")

calls = st.one_of(
    call(
        register,
        values.register_commands,
        known=st.none() | values.users,
        tag=values.tags,
        user_id=values.user_ids,
        password_hash=st.text(),
        now=values.times,
    ),
    call(
        open_session,
        values.user_ids,
        session_id=values.session_ids,
        nonce=values.nonces,
        device=st.text(),
        now=values.times,
        limits=limits,
    ),
    call(
        rotate,
        values.sessions().map(refresh_claims),
        maybe_sessions,
        now=values.times,
        limits=limits,
    ),
    call(
        confirm,
        values.sessions().map(partial(access_claims, now=values.EPOCH, limits=LIMITS)),
        maybe_sessions,
    ),
    call(end_session, maybe_sessions, reason=reasons, now=values.times),
    call(
        open_direct_chat,
        values.user_ids.map(OpenDirectChat),
        actor=values.user_ids,
        other=st.none() | values.users,
        existing=maybe_chats,
        created_before=st.sampled_from([0, LIMITS.chats_per_user]),
        chat_id=values.chat_ids,
        now=values.times,
        limits=limits,
    ),
    call(
        create_group,
        values.create_group_commands,
        actor=values.user_ids,
        known=st.just(range(1, 60)),
        created_before=st.just(0),
        chat_id=values.chat_ids,
        now=values.times,
        limits=limits,
    ),
    call(
        update_group,
        some_groups,
        st.builds(UpdateGroup, values.chat_ids, values.texts(max_size=20), values.avatar_urls),
        actor=values.user_ids,
        people=people,
        message_id=values.message_ids,
        now=values.times,
        limits=limits,
    ),
    call(
        add_members,
        some_groups,
        st.builds(AddMembers, values.chat_ids, user_ids=st.lists(values.user_ids, max_size=3).map(tuple)),
        actor=values.user_ids,
        people=people,
        message_id=values.message_ids,
        now=values.times,
        limits=limits,
    ),
    call(
        change_role,
        some_groups,
        st.builds(ChangeRole, values.chat_ids, values.user_ids, st.sampled_from(Role)),
        actor=values.user_ids,
        people=people,
        message_id=values.message_ids,
        now=values.times,
    ),
    call(
        remove_member,
        some_groups,
        st.builds(RemoveMember, values.chat_ids, values.user_ids),
        actor=values.user_ids,
        people=people,
        message_ids=st.tuples(values.message_ids, values.message_ids),
        now=values.times,
    ),
    call(
        send_message,
        maybe_chats,
        values.send_commands(),
        author=values.user_ids,
        replied_to=maybe_messages,
        message_id=values.message_ids,
        now=values.times,
        limits=limits,
    ),
    call(
        edit_message,
        maybe_chats,
        maybe_messages,
        values.edit_commands,
        editor=values.user_ids,
        now=values.times,
        limits=limits,
    ),
    call(
        delete_message,
        maybe_chats,
        maybe_messages,
        deleter=values.user_ids,
        now=values.times,
    ),
    call(
        store,
        values.idempotent_requests,
        status=st.just(201),
        resource=st.none() | values.resources,
        now=values.times,
    ),
)


@given(calls)
def test_decisions_are_deterministic(call: DecisionCall) -> None:
    """The same arguments give the same decision or refusal, and a decision does not change its arguments."""
    before = deepcopy(call)
    outcome = call.outcome()
    assert call == before
    assert outcome == before.outcome() == call.outcome()


@given(calls)
def test_effects_are_in_order(call: DecisionCall) -> None:
    """Storage effects come before delivery effects."""
    try:
        decision = call.function(*call.arguments, **call.keywords)
    except Refused:
        return
    kinds = [isinstance(effect, DeliveryEffect) for effect in decision.effects]
    assert kinds == sorted(kinds)
    assert all(isinstance(effect, StorageEffect | DeliveryEffect) for effect in decision.effects)
