"""Puts the server together: a storage, the keys, the application, the listener."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import click
import structlog
import trio
from attrs import evolve, frozen

from adapters.cli.buses import NONE, make_bus
from adapters.cli.settings import Settings, setting_named
from adapters.listener import serve
from adapters.quart_app import HttpConfig, create_app
from adapters.quart_app.cors import ANY_ORIGIN
from adapters.quart_app.wire import encode
from adapters.runtime import Hub, Messaging
from adapters.security import (
    Argon2Hasher,
    JwtSigner,
    Keyring,
    load_email_parser,
    load_or_make_keyring,
    parse_email,
)
from adapters.security.keyring import make_keyring, parse_keyring
from adapters.storage_memory import MemoryStorage
from adapters.storage_sql import NEWEST, InvalidAddress, migrate_sqlite, open_sqlite
from adapters.storage_sql.postgresql.config import is_postgresql, without_secrets
from messaging_core.ports import Bus, Storage
from messaging_core.privacy import EmailVisibility

log = structlog.get_logger(__name__)

SQLITE = "sqlite:///"
MEMORY = "memory:"
REFUSAL_HEADERS = ((b"access-control-allow-origin", b"*"),)
"""What is refused before its Origin is read is still told to the page that asked."""


class Unusable(click.ClickException):
    """A setting is wrong, and starting again will not help; the message names it and says what to do."""

    exit_code = click.UsageError.exit_code


class NotNow(click.ClickException):
    """The server cannot start as things are, which may pass; the message names the setting and the cause."""


@frozen
class Server:
    """A server that answers: where, and what its operator should know."""

    addresses: tuple[str, ...]
    database: str
    warnings: tuple[str, ...]


async def run_server(
    settings: Settings,
    *,
    shutdown: trio.Event,
    loaded: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `shutdown` is set and everything in flight is done.

    Raises `Unusable`, `NotNow`, `DatabaseUnusable`.

    `task_status.started` gives the server once it answers; `loaded` is called a moment later, when what only
    pages and uncommon requests need has been loaded too.
    """
    given = _given_keyring(settings)
    bus = _bus(settings)
    async with _storage(settings) as storage:
        # Not before it is known that there can be a database beside the keys that are made.
        keyring, warnings = (given, ()) if given else _own_keyring(settings)
        messaging = Messaging(
            storage=storage,
            hub=Hub(settings.limits, encode),
            signer=JwtSigner(keyring),
            hasher=Argon2Hasher(settings.hashing_threads),
            parse_email=parse_email,
            limits=settings.limits,
            privacy=settings.privacy,
            bus=bus,
        )
        app = create_app(
            messaging,
            HttpConfig(
                cors_origins=settings.origins,
                rate_limits=settings.rate_limits,
                body_bytes=settings.listener.body_bytes,
                body_bytes_without_token=settings.body_bytes_without_token,
                handshake_time=settings.listener.handshake_time,
                docs=settings.docs,
                client=settings.client,
            ),
        )
        host, port = settings.bind
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, shutdown, messaging)
            listen = evolve(settings.listener, host=host, port=port, refusal_headers=REFUSAL_HEADERS)
            try:
                quick = app.quick_path if listen.quick_path else None
                serving = partial(serve, app, listen, shutdown=shutdown, whole_requests=quick)
                addresses = await nursery.start(serving)
            except* OSError as group:
                raise cannot_listen(settings, first_of(group)) from None
            urls = tuple(f"http://{spelled(*address)}" for address in addresses)
            shown = without_secrets(settings.database)
            task_status.started(Server(urls, shown, (*warnings, *_exposure(settings))))
            try:
                await app.load()
                load_email_parser()
            except (OSError, ImportError) as error:
                # A crowd may have taken all descriptors. The API and the sockets need nothing of this.
                if os.strerror(errno.EMFILE) not in str(error):
                    raise
                log.exception("What pages need could not be loaded; it is tried again when somebody asks")
            loaded()


def must_be_shareable(settings: Settings) -> None:
    """Raise `Unusable` where several workers have a database that one process owns."""
    if settings.workers > 1 and not is_postgresql(settings.database):
        raise Unusable(
            f"{setting_named('workers')}: {settings.workers} processes cannot share "
            f"{without_secrets(settings.database)}: one process owns it, and serves all who come. Use "
            "--workers 1, or PostgreSQL: --database postgresql://HOST/NAME"
        )


def spelled(host: str, port: int) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_listen(settings: Settings, cause: BaseException) -> NotNow:
    """What to say when the address is in use, or none of this machine's."""
    return NotNow(f"{setting_named('bind')}: cannot listen on {spelled(*settings.bind)}: {cause}")


def told_of(cause: BaseException) -> click.ClickException:
    """How the command ends for it: only an address that is wrong will be as wrong the next time."""
    if isinstance(cause, InvalidAddress):
        return Unusable(f"{setting_named('database')}: {cause}")
    return click.ClickException(str(cause))


def first_of(group: BaseExceptionGroup[Exception]) -> BaseException:
    """The first exception in a group that is no group itself."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _drain(shutdown: trio.Event, messaging: Messaging) -> None:
    await shutdown.wait()
    messaging.hub.drain()


def _bus(settings: Settings) -> Bus | None:
    try:
        return make_bus(settings.bus, settings.database)
    except ValueError as error:
        raise Unusable(f"{setting_named('bus')}: {error}") from None


@asynccontextmanager
async def _storage(settings: Settings) -> AsyncIterator[Storage]:
    if settings.database == MEMORY:
        yield MemoryStorage()
    elif is_postgresql(settings.database):
        # The driver takes a while to load, and a server on a file has no use for it.
        from adapters.storage_sql.postgresql.storage import open_postgresql  # noqa: PLC0415

        async with open_postgresql(settings.database, settings.postgresql) as storage:
            yield storage
    else:
        async with open_sqlite(database_file(settings.database)) as storage:
            yield storage


def migrate(database: str) -> str:
    """Bring a database to the newest schema, and say what was done; raises `Unusable`, `DatabaseUnusable`."""
    if database == MEMORY:
        raise Unusable(f"{setting_named('database')}: memory: is empty at each start; nothing to migrate")
    if is_postgresql(database):
        from adapters.storage_sql.postgresql.schema import upgrade_postgresql  # noqa: PLC0415

        before = upgrade_postgresql(database)
    else:
        before = migrate_sqlite(database_file(database))
    shown = without_secrets(database)
    match before:
        case None:
            return f"{shown}: made the tables, schema {NEWEST}"
        case str() if before == NEWEST:
            return f"{shown}: nothing to do, it has the newest schema, {NEWEST}"
        case _:
            return f"{shown}: upgraded from schema {before} to {NEWEST}"


def database_file(database: str) -> Path:
    """The file of an `sqlite:///` address; raises `Unusable` for any other."""
    name = database.removeprefix(SQLITE)
    if name == database or not name:
        raise Unusable(
            f"{setting_named('database')}: {without_secrets(database)!r} is not sqlite:///FILE, such as "
            "sqlite:///messaging.db or sqlite:////var/lib/messaging/messaging.db, nor "
            "postgresql://USER:PASSWORD@HOST:PORT/NAME, nor memory:"
        )
    return Path(name)


def _given_keyring(settings: Settings) -> Keyring | None:
    if settings.signing_keys:
        try:
            return parse_keyring(settings.signing_keys, source=setting_named("signing_keys"))
        except ValueError as error:
            raise Unusable(str(error)) from None
    if is_postgresql(settings.database):
        raise Unusable(
            f"{setting_named('signing_keys')}: processes sharing a PostgreSQL database sign with the "
            "same secret, so it must be set. Make one, and give it to each: export "
            """MESSAGING_SIGNING_KEYS="k1:$(python3 -c 'import secrets; print(secrets.token_hex(32))')\""""
        )
    return None


def _own_keyring(settings: Settings) -> tuple[Keyring, tuple[str, ...]]:
    """The keys that the server makes where none are given, and what is to be said of them."""
    if settings.database == MEMORY:
        return make_keyring(), ("The signing secret is forgotten at the end, as everything is: memory:",)
    file = database_file(settings.database)
    path = file.with_name(f"{file.name}.keys")
    try:
        keyring = load_or_make_keyring(path)
    except (OSError, ValueError) as error:
        raise NotNow(
            f"{setting_named('database')}: the signing secret cannot be kept beside {file}: {error}"
        ) from None
    told = f"The signing secret was made by the server and is kept in {path}; set --signing-keys to manage it"
    return keyring, (told,)


def _exposure(settings: Settings) -> tuple[str, ...]:
    """What is unfit for production."""
    warnings = []
    if ANY_ORIGIN in settings.origins:
        warnings.append("Pages of any origin may call; set --cors-origins to those of your own")
    if settings.email_visibility is EmailVisibility.EVERYONE:
        warnings.append(
            "Everybody with an account sees everybody's e-mail; set --email-visibility to shared_chat or self"
        )
    if settings.privacy.avatar_hosts.everywhere:
        warnings.append("Avatars may be on any host, which learns who looks at them; set --avatar-hosts")
    if not settings.rate_limits:
        warnings.append("Rate limits are off")
    if settings.bus == NONE and is_postgresql(settings.database):
        warnings.append("Sockets hear only what their own process commits: --bus none")
    if settings.database == MEMORY:
        warnings.append("Nothing is kept: --database memory:")
    return tuple(warnings)
