"""The statements in SQLAlchemy Core, compiled once per dialect into text for the raw driver.

Core compiles at each execution, which is slow: the transaction of a message takes 358 us, and 93 us with
statements compiled once. A statement's parameters are positional, in the order in which `compile_statements`
names them.
"""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Insert,
    Select,
    Subquery,
    Table,
    Text,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

from adapters.storage_sql.members import COLUMNS, DIRECT_MARKS, MARK
from adapters.storage_sql.statements import Statements
from adapters.storage_sql.tables import (
    chats,
    direct_chats,
    email_keys,
    events,
    former_members,
    leases,
    members,
    messages,
    password_hashes,
    presences,
    sequences,
    sessions,
    sightings,
    stored_responses,
    users,
)
from messaging_core.events import CREATED

CHAT_COLUMNS = tuple([column for column in chats.c if column.name not in {"deleted_at", "deleted_by"}])
MEMBER_COLUMNS = tuple([members.c[name] for name in COLUMNS])
MESSAGE_COLUMNS = tuple([column for column in messages.c if column.name != "ordinal"])
RESPONSE_COLUMNS = ("fingerprint", "status", "resource_kind", "resource_id", "created_at")
"""Columns of a stored response besides its key."""


def _mark_column(of_group: str, of_first: str, of_second: str) -> ColumnElement[Any]:
    return case(
        (chats.c.is_group, members.c[of_group]),
        (members.c.position == literal_column("1"), chats.c[of_first]),
        else_=chats.c[of_second],
    )


MARK_COLUMNS = tuple(map(_mark_column, MARK, DIRECT_MARKS[:2], DIRECT_MARKS[2:]))
"""A member's mark, in a direct chat or a group."""

Among = Callable[[ColumnElement[Any], str], ColumnElement[bool]]
"""`column IN (a parameter with many values)`, in an engine's dialect."""

Upsert = Callable[[Table], ClauseElement]
"""Insert a row of all columns, or replace all columns but the key of the row that has its key."""

Greater = Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[Any]]
"""The greater one of two values."""

Replace = Callable[[Table], Insert]
"""Insert a row, and delete a row with the same values in a unique constraint."""


def compile_statements(
    dialect: Dialect, *, among: Among, upsert: Upsert, replace: Replace, greater: Greater
) -> Statements:
    """Compile every statement for `dialect`, whose placeholders must be positional."""

    def compiled(statement: ClauseElement, *parameters: str) -> str:
        return text_of(statement, dialect, *parameters)

    def inserted(table: Table, *names: str) -> str:
        names = names or tuple(table.c.keys())
        return compiled(insert(table).values({name: bindparam(name) for name in names}), *names)

    def stored(table: Table) -> str:
        return compiled(upsert(table), *table.c.keys())

    own_after = (members.c.user_id == bindparam("user_id"), members.c.chat_id > bindparam("after_id"))
    in_chat = messages.c.chat_id == bindparam("chat_id")
    theirs = members.alias("theirs")
    in_order = select(messages.c.id, messages.c.sequence).where(in_chat)
    ending = ("last", "chat_id")

    def kept(*conditions: ColumnElement[bool]) -> ClauseElement:
        """Copies memberships of a chat to those that have ended."""
        last = bindparam("last", type_=former_members.c.last_sequence.type)
        columns = (members.c.chat_id, last, *MEMBER_COLUMNS)
        found = select(*columns).where(members.c.chat_id == bindparam("chat_id"), *conditions)
        return insert(former_members).from_select(("chat_id", "last_sequence", *COLUMNS), found)

    def further(columns: Iterable[str], table: Table) -> dict[str, ColumnElement[Any]]:
        """Sets columns to a parameter where that is greater."""
        return {name: greater(table.c[name], bindparam(f"new_{name}")) for name in columns}

    advanced = ("sequence", "active_at", "last_message_id", "message_count")
    new: dict[str, Any] = {name: bindparam(f"new_{name}") for name in advanced}
    of_members = members.join(chats, chats.c.id == members.c.chat_id)
    fixed = {"id", "chat_id", "sequence", "ordinal"}
    changeable = [column.name for column in messages.c if column.name not in fixed]
    return Statements(
        user=compiled(select(users).where(users.c.id == bindparam("id")), "id"),
        users=compiled(select(users).where(among(users.c.id, "ids")), "ids"),
        user_by_email=compiled(
            select(users)
            .join(email_keys, email_keys.c.user_id == users.c.id)
            .where(email_keys.c.key == bindparam("key")),
            "key",
        ),
        user_by_tag=compiled(select(users).where(users.c.tag == bindparam("tag")), "tag"),
        password_hash=compiled(
            select(password_hashes.c.hash).where(password_hashes.c.user_id == bindparam("user_id")), "user_id"
        ),
        session=compiled(select(sessions).where(sessions.c.id == bindparam("id")), "id"),
        chat=compiled(
            select(*CHAT_COLUMNS).where(chats.c.id == bindparam("id"), chats.c.deleted_at.is_(None)), "id"
        ),
        tombstone=compiled(
            select(chats.c.id, chats.c.sequence, chats.c.deleted_at, chats.c.deleted_by).where(
                chats.c.id == bindparam("id"), chats.c.deleted_at.is_not(None)
            ),
            "id",
        ),
        direct_chat=compiled(
            select(*CHAT_COLUMNS)
            .join(direct_chats, direct_chats.c.chat_id == chats.c.id)
            .where(
                direct_chats.c.low_user_id == bindparam("low"),
                direct_chats.c.high_user_id == bindparam("high"),
            ),
            "low",
            "high",
        ),
        chat_ids_of=compiled(
            select(members.c.chat_id).where(*own_after).order_by(members.c.chat_id).limit(bindparam("count")),
            *("user_id", "after_id", "count"),
        ),
        chats_of=compiled(
            select(*CHAT_COLUMNS)
            .join(members, members.c.chat_id == chats.c.id)
            .where(*own_after)
            .order_by(members.c.chat_id)
            .limit(bindparam("count")),
            *("user_id", "after_id", "count"),
        ),
        chats_shared=compiled(
            select(*CHAT_COLUMNS)
            .join(members, members.c.chat_id == chats.c.id)
            .where(members.c.user_id == bindparam("user_id"), among(members.c.chat_id, "chat_ids")),
            *("user_id", "chat_ids"),
        ),
        chats_made_by=compiled(
            select(func.count())
            .select_from(members)
            .where(members.c.user_id == bindparam("user_id"), members.c.position == literal_column("1")),
            "user_id",
        ),
        # For each chat of `one`, the unique index says whether `other` is in it, up to the first such chat.
        shares_chat=compiled(
            select(members.c.chat_id)
            .join(theirs, theirs.c.chat_id == members.c.chat_id)
            .where(members.c.user_id == bindparam("one"), theirs.c.user_id == bindparam("other"))
            .limit(1),
            *("one", "other"),
        ),
        # Gives a chat once for each of the given users in it: DISTINCT would sort.
        positions=compiled(
            union_all(
                select(former_members.c.chat_id, former_members.c.last_sequence, literal_column("0")).where(
                    among(former_members.c.user_id, "user_ids")
                ),
                select(chats.c.id, chats.c.sequence, literal_column("1"))
                .join(members, members.c.chat_id == chats.c.id)
                .where(among(members.c.user_id, "user_ids")),
            ),
            *("user_ids", "user_ids"),
        ),
        members=compiled(
            select(*MEMBER_COLUMNS)
            .where(members.c.chat_id == bindparam("chat_id"))
            .order_by(members.c.position),
            "chat_id",
        ),
        ended_members=compiled(
            select(*[former_members.c[name] for name in COLUMNS], former_members.c.last_sequence)
            .where(
                former_members.c.chat_id == bindparam("chat_id"),
                former_members.c.last_sequence >= bindparam("since"),
            )
            .order_by(former_members.c.last_sequence, former_members.c.user_id),
            *("chat_id", "since"),
        ),
        ranked_members=compiled(
            select(members.c.user_id)
            .where(members.c.chat_id == bindparam("chat_id"), members.c.role != literal_column("'member'"))
            .order_by(members.c.role.desc(), members.c.position)  # the owner, then the admins
            .limit(bindparam("count")),
            *("chat_id", "count"),
        ),
        first_members=compiled(
            select(members.c.user_id)
            .where(members.c.chat_id == bindparam("chat_id"))
            .order_by(members.c.position)
            .limit(bindparam("count")),
            *("chat_id", "count"),
        ),
        own_memberships=compiled(
            select(members.c.chat_id, *MEMBER_COLUMNS).where(
                members.c.user_id == bindparam("user_id"), among(members.c.chat_id, "chat_ids")
            ),
            *("user_id", "chat_ids"),
        ),
        mark_before=compiled(
            select(messages.c.id, messages.c.ordinal)
            .where(in_chat, messages.c.sequence < bindparam("before_sequence"))
            .order_by(messages.c.sequence.desc())
            .limit(1),
            *("chat_id", "before_sequence"),
        ),
        marks=compiled(
            select(members.c.user_id, *MARK_COLUMNS)
            .select_from(of_members)
            .where(members.c.chat_id == bindparam("chat_id"))
            .order_by(members.c.position),
            "chat_id",
        ),
        own_marks=compiled(
            select(members.c.chat_id, *MARK_COLUMNS)
            .select_from(of_members)
            .where(members.c.user_id == bindparam("user_id"), among(members.c.chat_id, "chat_ids")),
            *("user_id", "chat_ids"),
        ),
        furthest_marks=compiled(
            select(members.c.chat_id, *[func.max(column) for column in MARK_COLUMNS])
            .select_from(of_members)
            .where(among(members.c.chat_id, "chat_ids"), members.c.user_id != bindparam("user_id"))
            .group_by(members.c.chat_id),
            *("chat_ids", "user_id"),
        ),
        message=compiled(select(*MESSAGE_COLUMNS).where(messages.c.id == bindparam("id")), "id"),
        last_messages=compiled(select(*MESSAGE_COLUMNS).where(among(messages.c.id, "ids")), "ids"),
        # No condition on the chat: with one, an engine might search all of that chat's messages.
        message_numbers=compiled(
            select(messages.c.chat_id, messages.c.id, messages.c.sequence).where(
                messages.c.id.in_([bindparam("id"), bindparam("or_id")])
            ),
            *("id", "or_id"),
        ),
        last_message_number=compiled(in_order.order_by(messages.c.sequence.desc()).limit(1), "chat_id"),
        next_message_number=compiled(
            in_order.where(messages.c.sequence >= bindparam("from_sequence"))
            .order_by(messages.c.sequence)
            .limit(1),
            *("chat_id", "from_sequence"),
        ),
        messages_before=compiled(
            select(*MESSAGE_COLUMNS)
            .where(
                in_chat,
                messages.c.sequence < bindparam("before_sequence"),
                messages.c.sequence >= bindparam("since"),
            )
            .order_by(messages.c.sequence.desc())
            .limit(bindparam("count")),
            *("chat_id", "before_sequence", "since", "count"),
        ),
        messages_after=compiled(
            select(*MESSAGE_COLUMNS)
            .where(in_chat, messages.c.sequence > bindparam("after_sequence"))
            .order_by(messages.c.sequence)
            .limit(bindparam("count")),
            *("chat_id", "after_sequence", "count"),
        ),
        message_ids_of_others=compiled(
            select(messages.c.id)
            .where(
                in_chat,
                messages.c.sequence < bindparam("before_sequence"),
                messages.c.sequence >= bindparam("since"),
                messages.c.author_id.is_distinct_from(bindparam("user_id")),
            )
            .order_by(messages.c.sequence.desc())
            .limit(bindparam("count")),
            *("chat_id", "before_sequence", "since", "user_id", "count"),
        ),
        stored_response=compiled(
            select(*[stored_responses.c[name] for name in RESPONSE_COLUMNS]).where(
                stored_responses.c.user_id == bindparam("user_id"),
                stored_responses.c.method == bindparam("method"),
                stored_responses.c.path == bindparam("path"),
                stored_responses.c.key == bindparam("key"),
            ),
            *("user_id", "method", "path", "key"),
        ),
        # One statement reads one snapshot, so no entry is missing between its two parts.
        log=compiled(
            union_all(
                select(
                    _page_of_log(
                        select(
                            messages.c.chat_id,
                            messages.c.sequence,
                            literal_column(f"'{CREATED}'").label("name"),
                            messages.c.id.label("message_id"),
                            messages.c.ts.label("at"),
                            cast(null(), Text).label("data"),
                            cast(null(), BigInteger).label("user_id"),
                        ),
                        messages,
                        "created",
                    )
                ),
                select(_page_of_log(select(events), events, "others")),
            )
            .order_by("sequence")
            .limit(bindparam("count")),
            *("chat_id", "after_sequence", "count") * 2,
            "count",
        ),
        insert_user=inserted(users),
        insert_email_key=inserted(email_keys),
        insert_password_hash=inserted(password_hashes),
        store_session=stored(sessions),
        insert_chat=inserted(chats, *[column.name for column in CHAT_COLUMNS]),
        insert_member=inserted(members, "chat_id", "position", *COLUMNS),
        insert_direct_chat=inserted(direct_chats),
        advance_chat=compiled(
            update(chats).where(chats.c.id == bindparam("of_chat")).values(new),
            *_new(advanced),
            "of_chat",
        ),
        advance_direct_chat=compiled(
            update(chats)
            .where(chats.c.id == bindparam("of_chat"))
            .values({**new, **further(DIRECT_MARKS, chats)}),
            *_new((*advanced, *DIRECT_MARKS)),
            "of_chat",
        ),
        advance_direct_marks=compiled(
            update(chats).where(chats.c.id == bindparam("of_chat")).values(further(DIRECT_MARKS, chats)),
            *_new(DIRECT_MARKS),
            "of_chat",
        ),
        advance_mark=compiled(
            update(members)
            .where(members.c.user_id == bindparam("of_user"), members.c.chat_id == bindparam("of_chat"))
            .values(further(MARK, members)),
            *_new(MARK),
            *("of_user", "of_chat"),
        ),
        change_chat=compiled(
            update(chats)
            .where(chats.c.id == bindparam("of_chat"))
            .values(
                title=bindparam("new_title"),
                avatar_url=bindparam("new_avatar_url"),
                history=bindparam("new_history"),
            ),
            *("new_title", "new_avatar_url", "new_history", "of_chat"),
        ),
        # Behind all members that the chat has; the first position is the creator's.
        add_member=compiled(
            insert(members).from_select(
                ("chat_id", "position", *COLUMNS),
                select(
                    bindparam("chat_id", type_=members.c.chat_id.type),
                    func.coalesce(func.max(members.c.position), literal_column("1")) + literal_column("1"),
                    *[bindparam(name, type_=members.c[name].type) for name in COLUMNS],
                ).where(members.c.chat_id == bindparam("of_chat")),
            ),
            *("chat_id", *COLUMNS, "of_chat"),
        ),
        count_member=compiled(
            update(chats)
            .where(chats.c.id == bindparam("of_chat"))
            .values(
                members_version=chats.c.members_version + literal_column("1"),
                member_count=chats.c.member_count + bindparam("more"),
            ),
            *("more", "of_chat"),
        ),
        store_role=compiled(
            update(members)
            .where(members.c.chat_id == bindparam("of_chat"), members.c.user_id == bindparam("of_user"))
            .values(role=bindparam("new_role")),
            *("new_role", "of_chat", "of_user"),
        ),
        keep_former_member=compiled(kept(members.c.user_id == bindparam("user_id")), *ending, "user_id"),
        remove_member=compiled(
            delete(members).where(
                members.c.chat_id == bindparam("chat_id"), members.c.user_id == bindparam("user_id")
            ),
            *("chat_id", "user_id"),
        ),
        keep_former_members=compiled(kept(), *ending),
        remove_members=compiled(delete(members).where(members.c.chat_id == bindparam("chat_id")), "chat_id"),
        delete_chat=compiled(
            update(chats)
            .where(chats.c.id == bindparam("of_chat"), chats.c.deleted_at.is_(None))
            .values(
                sequence=bindparam("new_sequence"),
                members_version=chats.c.members_version + literal_column("1"),
                member_count=literal_column("0"),
                deleted_at=bindparam("new_deleted_at"),
                deleted_by=bindparam("new_deleted_by"),
            ),
            *("new_sequence", "new_deleted_at", "new_deleted_by", "of_chat"),
        ),
        insert_message=inserted(messages),
        change_message=compiled(
            update(messages)
            .where(messages.c.id == bindparam("of_message"))
            .values({name: bindparam(f"new_{name}") for name in changeable}),
            *(f"new_{name}" for name in changeable),
            "of_message",
        ),
        append_event=inserted(events),
        store_response=compiled(
            replace(stored_responses).values(
                {name: bindparam(name) for name in stored_responses.c.keys()[1:]}
            ),
            *stored_responses.c.keys()[1:],
        ),
        forget_responses=compiled(
            delete(stored_responses).where(
                stored_responses.c.id
                < select(func.min(stored_responses.c.id)).scalar_subquery() + bindparam("count"),
                stored_responses.c.created_at < bindparam("before"),
            ),
            *("count", "before"),
        ),
        forget_sessions=compiled(
            _delete_some(
                sessions,
                or_(
                    sessions.c.expires_at < bindparam("expired_before"),
                    sessions.c.ended_at < bindparam("ended_before"),
                ),
            ),
            *("expired_before", "ended_before", "count"),
        ),
        # Grouping would sort: the later times are found by the reader.
        sightings=compiled(
            union_all(
                select(sightings.c.user_id, sightings.c.at, sightings.c.until).where(
                    among(sightings.c.user_id, "user_ids")
                ),
                select(presences.c.user_id, leases.c.until.label("at"), leases.c.until)
                .join(leases, leases.c.holder == presences.c.holder)
                .where(among(presences.c.user_id, "user_ids")),
            ),
            *("user_ids", "user_ids"),
        ),
        renew_lease=compiled(
            update(leases)
            .where(leases.c.holder == bindparam("of_holder"), leases.c.until >= bindparam("now"))
            .values(until=bindparam("new_until")),
            *("new_until", "of_holder", "now"),
        ),
        add_lease=inserted(leases),
        hold_presence=compiled(
            _insert_unless(
                presences,
                ("user_id", "holder"),
                presences.c.user_id == bindparam("of_user"),
                presences.c.holder == bindparam("of_holder"),
            ),
            *("user_id", "holder", "of_user", "of_holder"),
        ),
        end_presence=compiled(
            delete(presences).where(
                presences.c.user_id == bindparam("user_id"), presences.c.holder == bindparam("holder")
            ),
            *("user_id", "holder"),
        ),
        renew_sighting=compiled(
            update(sightings)
            .where(sightings.c.user_id == bindparam("of_user"))
            .values(at=_later(sightings.c.at, "new_at"), until=_later(sightings.c.until, "new_until")),
            *("new_at", "new_at", "new_until", "new_until", "of_user"),
        ),
        add_sighting=compiled(
            _insert_unless(
                sightings, ("user_id", "at", "until"), sightings.c.user_id == bindparam("of_user")
            ),
            *("user_id", "at", "until", "of_user"),
        ),
        old_presences=compiled(
            select(presences.c.user_id, presences.c.holder, leases.c.until)
            .join(leases, leases.c.holder == presences.c.holder)
            .where(leases.c.until < bindparam("before"))
            .limit(bindparam("count")),
            *("before", "count"),
        ),
        drop_leases=compiled(
            delete(leases).where(
                leases.c.until < bindparam("before"),
                ~exists(select(presences.c.holder).where(presences.c.holder == leases.c.holder)),
            ),
            "before",
        ),
        sequences=compiled(select(sequences)),
        store_sequence=stored(sequences),
    )


def _later(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    new = bindparam(name, type_=column.type)
    return case((column < new, new), else_=column)


def _insert_unless(table: Table, names: tuple[str, ...], *found: ColumnElement[bool]) -> ClauseElement:
    """Insert a row unless there is one on which the conditions hold."""
    values = select(*(bindparam(name, type_=table.c[name].type) for name in names))
    there: Select[Any] = select(literal_column("1")).select_from(table).where(*found)
    return insert(table).from_select(names, values.where(~exists(there)))


def _new(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"new_{name}" for name in names)


def _page_of_log(part: Select[Any], table: Table, name: str) -> Subquery:
    return (
        part.where(table.c.chat_id == bindparam("chat_id"), table.c.sequence > bindparam("after_sequence"))
        .order_by(table.c.sequence)
        .limit(bindparam("count"))
        .subquery(name)
    )


def _delete_some(table: Table, condition: ColumnElement[bool]) -> ClauseElement:
    """Delete at most `count` rows: neither engine, as it is commonly built, has DELETE with LIMIT."""
    key = tuple(table.primary_key)
    which = tuple_(*key) if len(key) > 1 else key[0]
    return delete(table).where(which.in_(select(*key).where(condition).limit(bindparam("count"))))


def text_of(statement: ClauseElement, dialect: Dialect, *parameters: str) -> str:
    """The statement's SQL, whose placeholders are exactly `parameters`, in this order.

    A constant for which Core generates a parameter (SQLite's `OFFSET 0`) becomes part of the text.
    """
    compiled = statement.compile(dialect=dialect)
    mark = {"qmark": "?", "format": "%s"}[dialect.paramstyle]
    first, *rest = str(compiled).split(mark)
    names: list[str] = compiled.positiontup  # type: ignore[attr-defined]
    pieces = [first]
    for name, piece in zip(names, rest, strict=True):
        pieces += (mark if name in parameters else str(int(compiled.params[name])), piece)
    found = tuple(name for name in names if name in parameters)
    if found != parameters:
        raise ValueError(f"the parameters of {compiled} are {found}, not {parameters}")
    return "".join(pieces).replace(" \n", "\n")
