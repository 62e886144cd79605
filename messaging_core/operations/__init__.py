"""Load, then decide: every command as a function of a transaction, every query as one of a reader."""

from messaging_core.operations.accounts import (
    confirm,
    credentials,
    forget,
    log_out,
    open_session,
    register,
    registration_request,
    rotate,
    session,
    sessions,
    try_to_write,
)
from messaging_core.operations.base import Context, Operation, Part, Query, Reading, apply_decision
from messaging_core.operations.chats import create_group, get_chat, list_chats, open_direct_chat
from messaging_core.operations.groups import (
    add_members,
    change_role,
    delete_group,
    list_members,
    member_changed,
    members_added,
    remove_member,
    update_group,
)
from messaging_core.operations.logs import LogPart, log_part
from messaging_core.operations.messages import (
    MESSAGES_AT_ONCE,
    delete_message,
    edit_message,
    page_in_parts,
    page_of_messages,
    send_message,
)
from messaging_core.operations.once import Executed, once_only
from messaging_core.operations.presence import list_typists, report_typing
from messaging_core.operations.users import find_user_by_tag, get_own_user, get_user, knows

__all__ = (
    "MESSAGES_AT_ONCE",
    "Context",
    "Executed",
    "LogPart",
    "Operation",
    "Part",
    "Query",
    "Reading",
    "add_members",
    "apply_decision",
    "change_role",
    "confirm",
    "create_group",
    "credentials",
    "delete_group",
    "delete_message",
    "edit_message",
    "find_user_by_tag",
    "forget",
    "get_chat",
    "get_own_user",
    "get_user",
    "knows",
    "list_chats",
    "list_members",
    "list_typists",
    "log_out",
    "log_part",
    "member_changed",
    "members_added",
    "once_only",
    "open_direct_chat",
    "open_session",
    "page_in_parts",
    "page_of_messages",
    "register",
    "registration_request",
    "remove_member",
    "report_typing",
    "rotate",
    "send_message",
    "session",
    "sessions",
    "try_to_write",
    "update_group",
)
