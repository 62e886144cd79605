"""The composition root: builds the server from a storage, keys, the application and the listener."""

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
from adapters.http_api.cors import ANY_ORIGIN
from adapters.http_api.wire import encode
from adapters.listener import serve
from adapters.quart_app import HttpConfig, create_app
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
"""Lets any page read a refusal that the listener sends before it has read the request's Origin."""


class Unusable(click.ClickException):
    """A setting is wrong, so a restart will not help; the message names the setting and the remedy."""

    exit_code = click.UsageError.exit_code


class NotNow(click.ClickException):
    """The server cannot start for a cause that may pass; the message names the setting and the cause."""


@frozen
class Server:
    """A running server: its addresses, its database, and warnings for its operator."""

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
    """Serve until `shutdown` is set and all requests in flight have ended.

    Raises `Unusable`, `NotNow`, `DatabaseUnusable`.

    `task_status.started` passes the server once it serves; `loaded` is called a moment later, when the code
    for pages and uncommon requests is loaded too.
    """
    given = _given_keyring(settings)
    bus = _bus(settings)
    async with _storage(settings) as storage:
        # Only after the database is open, so that no keys are created beside a database that cannot exist.
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
                socket_profile=settings.socket_profile,
            ),
        )
        host, port = settings.bind
        replaced: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, shutdown, messaging)
            nursery.start_soon(_end_if_replaced, storage, shutdown, replaced)
            listen = evolve(settings.listener, host=host, port=port, refusal_headers=REFUSAL_HEADERS)
            try:
                quick = app.api if listen.quick_path else None
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
                # Connections may hold all descriptors. The API and the sockets do not need these modules.
                if os.strerror(errno.EMFILE) not in str(error):
                    raise
                log.exception("The modules for pages could not be loaded; the next request for one retries")
            loaded()
        if replaced:
            raise NotNow(replaced[0])  # the exit status asks for a restart


def must_be_shareable(settings: Settings) -> None:
    """Raise `Unusable` for several workers on a database that one process owns."""
    if settings.workers > 1 and not is_postgresql(settings.database):
        raise Unusable(
            f"{setting_named('workers')}: {settings.workers} processes cannot share "
            f"{without_secrets(settings.database)}: one process owns it and serves all clients. Use "
            "--workers 1, or PostgreSQL: --database postgresql://HOST/NAME"
        )


def spelled(host: str, port: int) -> str:
    """An address in the notation of URLs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_listen(settings: Settings, cause: BaseException) -> NotNow:
    """The error for an address that is in use, or that this machine does not have."""
    return NotNow(f"{setting_named('bind')}: cannot listen on {spelled(*settings.bind)}: {cause}")


def command_error(cause: BaseException) -> click.ClickException:
    """The error that ends the command; only a wrong address makes a restart futile."""
    if isinstance(cause, InvalidAddress):
        return Unusable(f"{setting_named('database')}: {cause}")
    return click.ClickException(str(cause))


def first_of(group: BaseExceptionGroup[Exception]) -> BaseException:
    """The first exception in a group, or in its nested groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _drain(shutdown: trio.Event, messaging: Messaging) -> None:
    await shutdown.wait()
    messaging.hub.drain()


async def _end_if_replaced(storage: Storage, shutdown: trio.Event, replaced: list[str]) -> None:
    """Shut down, with the reason in `replaced`, once the database has another incarnation."""

    async def stop_waiting() -> None:
        await shutdown.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_waiting)
        replaced.append(await storage.replaced())
        log.critical(replaced[0])
        shutdown.set()


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
        # The driver is slow to load, and a server on a file does not need it.
        from adapters.storage_sql.postgresql.storage import open_postgresql  # noqa: PLC0415

        async with open_postgresql(settings.database, settings.postgresql) as storage:
            yield storage
    else:
        async with open_sqlite(database_file(settings.database)) as storage:
            yield storage


def migrate(database: str) -> str:
    """Upgrade a database to the newest schema, and report it; raises `Unusable`, `DatabaseUnusable`."""
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
            return f"{shown}: created the tables, schema {NEWEST}"
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
    if "?" in name:
        raise Unusable(
            f"{setting_named('database')}: sqlite:/// takes the name of a file and no options: remove "
            f"{name[name.index('?') :]!r}"
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
    """The keys that the server creates where none are configured, and the warnings about them."""
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
    warning = f"The server created the signing secret in {path}; set --signing-keys to manage it"
    return keyring, (warning,)


def _exposure(settings: Settings) -> tuple[str, ...]:
    """Warnings about settings that are unfit for production."""
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
