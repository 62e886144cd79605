"""The text, for the raw driver, of every statement that both engines use."""

import re

from attrs import asdict, frozen


@frozen
class Statements:
    """SQL texts in one dialect; selected columns come in the order of the tables' columns."""

    user: str
    users: str
    user_by_email: str
    user_by_tag: str
    password_hash: str
    session: str
    chat: str
    tombstone: str
    direct_chat: str
    chat_ids_of: str
    shares_chat: str
    chats_of: str
    chats_shared: str
    chats_made_by: str
    positions: str
    members: str
    ended_members: str
    ranked_members: str
    first_members: str
    mark_before: str
    marks: str
    own_marks: str
    furthest_marks: str
    own_memberships: str
    message: str
    last_messages: str
    message_numbers: str
    last_message_number: str
    next_message_number: str
    messages_before: str
    messages_after: str
    message_ids_of_others: str
    stored_response: str
    log: str
    insert_user: str
    insert_email_key: str
    insert_password_hash: str
    store_session: str
    insert_chat: str
    insert_member: str
    insert_direct_chat: str
    advance_chat: str
    advance_direct_chat: str
    advance_direct_marks: str
    advance_mark: str
    change_chat: str
    add_member: str
    count_member: str
    store_role: str
    keep_former_member: str
    remove_member: str
    keep_former_members: str
    remove_members: str
    delete_chat: str
    insert_message: str
    change_message: str
    append_event: str
    store_response: str
    forget_responses: str
    forget_sessions: str
    sightings: str
    renew_lease: str
    add_lease: str
    hold_presence: str
    end_presence: str
    renew_sighting: str
    add_sighting: str
    old_presences: str
    drop_leases: str
    sequences: str
    store_sequence: str


_NAME = re.compile(r"^-- (\w+)\n", re.MULTILINE)


def write_statements(statements: Statements) -> str:
    """Format a file of SQL, each statement under its name."""
    return "\n".join(f"-- {name}\n{text}\n" for name, text in asdict(statements).items())


def read_statements(text: str) -> Statements:
    """Parse the text that `write_statements` formatted."""
    _, *parts = _NAME.split(text)
    names, texts = parts[::2], parts[1::2]
    return Statements(**{name: text.strip() for name, text in zip(names, texts, strict=True)})
