"""Who types: announced to the others of a small chat, remembered for some seconds, and never stored."""

from collections import deque
from datetime import datetime

from messaging_core.commands import ReportTyping
from messaging_core.effects import Decision
from messaging_core.events import Typing
from messaging_core.fanout import announce_ephemeral
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat


def report_typing(command: ReportTyping, chat: Chat, *, actor: UserId, limits: Limits) -> Decision[None]:
    """Announce it to the others of the actor's chat; in a large chat, to nobody."""
    if chat.member_count > limits.typing_members:
        return Decision(None)
    return Decision(None, (announce_ephemeral(chat, Typing(chat.id, actor, command.is_typing)),))


def others_who_type(chat: Chat, typists: tuple[UserId, ...], *, actor: UserId) -> tuple[UserId, ...]:
    """Those of `typists` whom the actor, a member of the chat, sees typing."""
    return tuple([user_id for user_id in typists if user_id != actor and chat.member(user_id) is not None])


class Typists:
    """Who types in which chat, by the events that a process has received.

    It holds at most the events of the last `typing_time`.
    """

    def __init__(self, limits: Limits) -> None:
        self._lasts = limits.typing_time
        self._chats: dict[ChatId, dict[UserId, datetime]] = {}
        """When each was last said to type, in this order."""
        self._reports: deque[tuple[datetime, ChatId, UserId]] = deque()

    def note(self, event: Typing, now: datetime) -> None:
        """Take the event into account; `now` never decreases by more than a moment."""
        self._forget(now)
        typists = self._chats.setdefault(event.chat_id, {})
        typists.pop(event.user_id, None)
        if event.is_typing:
            typists[event.user_id] = now
            self._reports.append((now, event.chat_id, event.user_id))
        elif not typists:
            del self._chats[event.chat_id]

    def of_chat(self, chat_id: ChatId, now: datetime) -> tuple[UserId, ...]:
        """Who types in the chat now, those who began or repeated it last at the end."""
        self._forget(now)
        return tuple(self._chats.get(chat_id, ()))

    def _forget(self, now: datetime) -> None:
        reports = self._reports
        while reports and now - reports[0][0] >= self._lasts:
            at, chat_id, user_id = reports.popleft()
            typists = self._chats.get(chat_id, {})
            if typists.get(user_id) == at:
                del typists[user_id]
                if not typists:
                    del self._chats[chat_id]
