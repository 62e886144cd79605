"""Who is there, and who types."""

from collections.abc import Collection, Mapping
from datetime import datetime

from messaging_core import chats, presence
from messaging_core.commands import GetOwnPresence, GetPresence, ListTypists, ReportTyping, SendHeartbeat
from messaging_core.effects import Decision
from messaging_core.errors import UserNotFound
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import Presence
from messaging_core.operations.base import Context, Operation, Query
from messaging_core.ports import Reader, Transaction


def get_presence(command: GetPresence, context: Context) -> Query[Presence]:
    """The presence of oneself, or of somebody with whom one shares a chat.

    Raises `UserNotFound` for others, known or not.
    """

    def query(reader: Reader) -> Presence:
        viewer, user_id = context.actor.user_id, command.user_id
        if not _sees(reader, viewer, user_id):
            raise UserNotFound
        return presence.presence_of(user_id, reader.sighting(user_id), context.now)

    return query


def get_own_presence(command: GetOwnPresence, context: Context) -> Query[Presence]:
    del command
    return get_presence(GetPresence(context.actor.user_id), context)


def presences(user_ids: Collection[UserId], now: datetime) -> Query[Mapping[UserId, Presence]]:
    """The presence of each of these people; `seen_by` selects those who may be shown."""

    def query(reader: Reader) -> Mapping[UserId, Presence]:
        found = reader.sightings(user_ids)
        return {user_id: presence.presence_of(user_id, found.get(user_id), now) for user_id in user_ids}

    return query


def seen_by(viewer: UserId, user_ids: Collection[UserId]) -> Query[frozenset[UserId]]:
    """Those of these people whose presence the viewer sees."""
    return lambda reader: frozenset([user_id for user_id in user_ids if _sees(reader, viewer, user_id)])


def _sees(reader: Reader, viewer: UserId, user_id: UserId) -> bool:
    """Whether somebody's presence is shown to the viewer: their own, and of people who share a chat."""
    return viewer == user_id or reader.shares_chat(viewer, user_id)


def send_heartbeat(command: SendHeartbeat, context: Context) -> Operation[None]:
    del command
    user_id = context.actor.user_id
    return lambda tx: presence.heartbeat(
        user_id, tx.sighting(user_id), now=context.now, limits=context.limits
    )


def keep_lease(
    holder: str, changes: presence.Changes, *, is_new: bool, now: datetime, limits: Limits
) -> Operation[bool]:
    """Renew or begin a lease, and store who has come and left; False where the lease has expired."""

    def operation(tx: Transaction) -> Decision[bool]:
        if not is_new and not tx.renew_lease(holder, until=now + presence.LEASE, now=now):
            return Decision(False)
        decision = presence.update_lease(holder, changes, is_new=is_new, now=now, limits=limits)
        return Decision(True, decision.effects)

    return operation


def drop_leases(now: datetime) -> Operation[int]:
    """Delete old leases, and keep when their users were last there.

    They expired long ago by the clock of any process, so no process renews one meanwhile.
    """
    return lambda tx: Decision(tx.drop_leases(now - presence.OLD_LEASE))


def report_typing(command: ReportTyping, context: Context) -> Operation[None]:
    """Raises `ChatNotFound`, then `NotAParticipant`."""

    def operation(tx: Transaction) -> Decision[None]:
        actor = context.actor.user_id
        chat = chats.readable(tx.chat(command.chat_id), actor)
        return presence.report_typing(command, chat, actor=actor, limits=context.limits)

    return operation


def list_typists(command: ListTypists, context: Context) -> Query[tuple[UserId, ...]]:
    """Who else types in a chat of the actor; raises `ChatNotFound`, then `NotAParticipant`."""
    typists = () if context.typists is None else context.typists.of_chat(command.chat_id, context.now)

    def query(reader: Reader) -> tuple[UserId, ...]:
        actor = context.actor.user_id
        chat = chats.readable(reader.chat(command.chat_id), actor)
        return presence.others_who_type(chat, typists, actor=actor)

    return query
