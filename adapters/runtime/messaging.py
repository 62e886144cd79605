"""The interpreter: runs an operation in a transaction, applies its effects, performs its deliveries."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime
from time import time
from typing import Any, TypeVar, assert_never

import structlog
import trio
from anyascii import anyascii
from attrs import frozen

from adapters.runtime.admissions import Admissions
from adapters.runtime.attendance import Attendant
from adapters.runtime.catch_up import CatchUp
from adapters.runtime.hub import NOBODY, Caller, Hub, Subscription
from adapters.runtime.presence_feed import PresenceFeed
from adapters.runtime.relay import Relay, parts
from messaging_core import operations, tokens, users
from messaging_core.avatars import AvatarHosts
from messaging_core.commands import GetOwnUser, LogIn, RefreshTokens, RegisterUser
from messaging_core.effects import CloseSockets, Decision, Deliver, DeliverEphemeral, DeliveryEffect
from messaging_core.errors import IdempotencyKeyReused, Refused
from messaging_core.events import Typing
from messaging_core.frames import Frame, HelloData, ShownLimits
from messaging_core.idempotency import IdempotentRequest, Shown
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, Session, User, UserView
from messaging_core.operations import Context, Executed, Operation, Part, Query, Reading
from messaging_core.ports import (
    Bus,
    EmailParser,
    OutcomeUnknown,
    PasswordHasher,
    Storage,
    StorageUnavailable,
    TokenSigner,
    Transaction,
)
from messaging_core.presence import Typists
from messaging_core.privacy import Privacy, shown
from messaging_core.profiles import PLAIN, Profile

log = structlog.get_logger(__name__)

T = TypeVar("T")

Read = Callable[[Query[Any]], Awaitable[Any]]
"""Runs a query on a view of its own."""

SWEEP_SECONDS = 30
"""How often the sessions of open sockets are read, to close the sockets of expired ones."""
FORGET_EVERY = 120
"""Sweeps between two deletions of expired responses and sessions: an hour."""
SESSIONS_AT_ONCE = 200
"""Sessions in one query: some milliseconds."""
TAG_TRIES = 20


@frozen
class TokenPair:
    """The two current tokens of a session; `expires_in` is the access token's lifetime in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int


@frozen
class SignedIn:
    """A session that has just begun: whose it is, as they see themselves, and its tokens."""

    user: UserView
    tokens: TokenPair


@frozen
class Registered:
    """The response to a registration, and whether an earlier request with the same key created the
    account.
    """

    result: SignedIn
    replayed: bool


async def in_parts(reading: Reading[T], read: Callable[[Query[Any]], Awaitable[Any]]) -> AsyncIterator[T]:
    """Yields the parts of a result; `read` runs each query on a view of its own."""
    result: object = None
    while True:
        try:
            step = reading.send(result)
        except StopIteration:
            return
        result = None
        if isinstance(step, Part):
            yield step.value
        else:
            result = await read(step)


class UtcClock:
    """The time in whole seconds, the domain's unit; it builds one `datetime` for each second."""

    def __init__(self) -> None:
        self._second = 0
        self._now = datetime.fromtimestamp(0, UTC)

    def __call__(self) -> datetime:
        second = int(time())
        if second != self._second:
            self._second, self._now = second, datetime.fromtimestamp(second, UTC)
        return self._now


class Messaging:
    """The interface for transports, over one storage and the sockets of this process."""

    def __init__(
        self,
        *,
        storage: Storage,
        hub: Hub,
        signer: TokenSigner,
        hasher: PasswordHasher,
        parse_email: EmailParser,
        limits: Limits,
        privacy: Privacy | None = None,
        now: Callable[[], datetime] | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        bus: Bus | None = None,
    ) -> None:
        self.hub = hub
        self.limits = limits
        self._privacy = privacy or Privacy()
        self._last_privacy: tuple[str | None, Privacy] = (None, self._privacy.at(None))
        self.now = now or UtcClock()
        self._random_bytes = random_bytes
        self._storage = storage
        self._signer = signer
        self._hasher = hasher
        self._parse_email = parse_email
        self._admissions = Admissions()
        self.relay: Relay | None = None
        """Delivers commits between processes; None where this is the only process."""
        self._refused_to_write = False
        """Whether the storage has refused a commit, and no later check has found that it has room."""
        self.catch_up = CatchUp(storage, hub, limits, self.context_of)
        self._deliver: Callable[[Deliver], None] = hub.deliver
        self.typists = Typists(limits)
        self._attendant = Attendant(self.execute, self.now, limits)
        self._presence_feed = PresenceFeed(hub, self.read, self.now)
        hub.gone = self._gone
        if bus is not None:
            self.relay = Relay(
                bus,
                storage=storage,
                hub=hub,
                admissions=self._admissions,
                deliver_ephemeral=self._deliver_ephemeral,
                close_ended=lambda: self.close_sockets_of_ended_sessions(hub.sessions()),
            )
            self._deliver = self.relay.deliver

    # --- the way in ---

    async def execute(self, operation: Operation[T]) -> T:
        """The operation's result, once it is durable; deliveries are performed in the order of commits.

        Raises the operation's `Refused`, and `StorageUnavailable`.
        """
        return (await self._decide(operation)).result

    async def _decide(
        self, operation: Operation[T], committed: Callable[[Decision[T]], None] | None = None
    ) -> Decision[T]:
        """The operation's decision, once it is durable; `committed` is called before its deliveries."""

        def transaction(tx: Transaction) -> tuple[Decision[T], list[DeliveryEffect]]:
            decision = operation(tx)
            return decision, operations.apply_decision(tx, decision)

        perform: Callable[[tuple[Decision[T], list[DeliveryEffect]]], None] = self._perform
        if committed is not None:
            noted = committed

            def perform(decided: tuple[Decision[T], list[DeliveryEffect]]) -> None:
                noted(decided[0])
                self._perform(decided)

        try:
            decision, _ = await self._storage.transact(transaction, committed=perform)
        except StorageUnavailable as error:
            self._refused_to_write = True
            if isinstance(error, OutcomeUnknown):
                self._admissions.end_all()
                if self.relay is not None:
                    self.relay.doubt()
            raise
        return decision

    async def execute_once(
        self,
        operation: Operation[Shown],
        request: IdempotentRequest | None,
        *,
        status: int,
        context: Context,
        again: Query[Shown] | None = None,
        committed: Callable[[Executed], None] | None = None,
    ) -> Executed:
        """The result of `operation`, or of the earlier request with the same key: `operations.once_only`.

        With a `request`, `committed` is called after the commit and before the deliveries; it must not fail.
        """
        if request is None:
            decision = await self._decide(operation)
            return Executed(decision.result, status, False, decision.people_reached())
        once = operations.once_only(operation, request, status=status, context=context, again=again)
        if committed is None:
            return (await self._decide(once)).result
        noted = committed
        return (await self._decide(once, lambda decision: noted(decision.result))).result

    async def read(self, query: Query[T]) -> T:
        return await self._storage.read(query)

    async def check_storage(self) -> None:
        """Raise `StorageUnavailable` where the storage is known to be unreadable or unwritable.

        Writes only after a refused commit. A later successful commit does not prove that there is room again:
        that of a replay, for example, changes nothing.
        """
        if (trouble := self._storage.trouble) is not None:
            raise StorageUnavailable(trouble)
        await self.read(lambda reader: reader.log(ChatId(0), 0, 1))  # it must reach the disk, or the network
        if self._refused_to_write:
            await self.execute(operations.try_to_write)
            self._refused_to_write = False

    def _perform(self, decided: tuple[Decision[object], list[DeliveryEffect]]) -> None:
        for effect in decided[1]:
            match effect:
                case Deliver():
                    self._deliver(effect)
                case DeliverEphemeral():
                    self._deliver_ephemeral(effect)
                    if self.relay is not None:
                        self.relay.signal(effect)
                case CloseSockets(session_id, reason):
                    self._admissions.end(session_id)
                    self.hub.close_session(session_id, reason)
                    if self.relay is not None:
                        self.relay.signal(effect)
                case _:
                    assert_never(effect)

    def _deliver_ephemeral(self, delivery: DeliverEphemeral) -> None:
        """Remember and deliver what happened here or, by its signal, in another process."""
        if isinstance(delivery.event, Typing):
            self.typists.note(delivery.event, self.now())
        self.hub.deliver(delivery)

    # --- sessions ---

    @property
    def avatar_hosts(self) -> AvatarHosts:
        return self._privacy.avatar_hosts

    def privacy_at(self, host: str | None) -> Privacy:
        """The privacy rules for a request whose Host header is `host`."""
        last, privacy = self._last_privacy
        if host != last:
            privacy = self._privacy.at(host)
            self._last_privacy = (host, privacy)  # nearly all requests have the same
        return privacy

    async def authenticate(self, token: str) -> Actor:
        """The actor of an access token; records the token's first use. Raises `Unauthenticated`."""
        if self.relay is None or self.relay.is_trusted:
            known = self._admissions.actor(token, now=self.now())
            if known is not None:
                return known
        claims = self._signer.read_access(token)
        endings = self._admissions.endings
        session = await self.read(operations.session(claims.session_id))
        actor = tokens.admit(claims, session, now=self.now(), limits=self.limits)
        if session is not None:
            if tokens.needs_confirmation(claims, session):
                await self.execute(operations.confirm(claims))
            until = tokens.admitted_until(claims, session, limits=self.limits)
            self._admissions.keep(token, actor, until=until, endings=endings)
        return actor

    async def connect(
        self, token: str, profile: Profile = PLAIN, *, caller: Caller = NOBODY, resumes: bool = False
    ) -> Subscription:
        """A socket for an access token's actor, registered at the hub until `hub.disconnect`.

        It receives every event from now on, and is closed if its session ends meanwhile. Where the profile
        counts, it is greeted first; one that resumes receives nothing more until its client has sent its
        positions.

        Raises `Unauthenticated`, `TooManySockets`, `StorageUnavailable`.
        """
        endings = self._admissions.endings
        actor = await self.authenticate(token)
        greeting = await self._greeting(actor, profile, caller) if profile.counts else None
        socket = self.hub.connect(actor, profile, caller=caller, resumes=resumes, greeting=greeting)
        self._attendant.come(actor.user_id)
        try:
            if self.relay is not None:
                await self.relay.follow(actor.user_id)
            if endings != self._admissions.endings:
                # It may be this session that ended, before the hub knew the socket and could close it.
                await self.close_sockets_of_ended_sessions([actor.session_id])
        except BaseException:
            self.hub.disconnect(socket)
            raise
        return socket

    async def _greeting(self, actor: Actor, profile: Profile, caller: Caller) -> Frame:
        context = self._context(actor, caller)
        user = await self.read(operations.get_own_user(GetOwnUser(), context))
        limits = self.limits
        bounds = ShownLimits(
            message_characters=limits.message_characters,
            message_payload_bytes=limits.message_payload_bytes,
            group_members=limits.group_members,
            frame_bytes=limits.command_bytes,
            resume_bytes=limits.resume_bytes,
            commands_queued=limits.commands_queued,
        )
        data = HelloData(
            profile.show_user(user), actor.session_id, self._storage.incarnation, context.now, bounds
        )
        return Frame("hello", data)

    def context_of(self, socket: Subscription) -> Context:
        """The context of what is read and carried out for a socket, now."""
        return self._context(socket.actor, socket.caller)

    def _context(self, actor: Actor, caller: Caller) -> Context:
        return Context(actor, self.now(), self.limits, self.privacy_at(caller.host))

    def _gone(self, user_id: UserId) -> None:
        """A user's last socket here has closed."""
        self._attendant.go(user_id)
        if self.relay is not None:
            self.relay.gone(user_id)

    async def register(
        self,
        command: RegisterUser,
        *,
        device: str,
        network: str,
        key: str | None,
        path: str,
        privacy: Privacy,
    ) -> Registered:
        """A new account, signed in; a replay checks the password and opens another session.

        `network` is the request's, for `PasswordHasher`.

        Raises `Invalid`, `EmailTaken`, `IdempotencyKeyReused`, `PasswordHasherBusy`.
        """
        registration = users.prepare_registration(command, self.limits, self._parse_email)
        privacy.avatar_hosts.check(registration.command.avatar_url)
        password = registration.command.password
        operation = operations.register(
            registration,
            password_hash=await self._hasher.hash(password, network=network),
            device=device,
            nonce=self._random_bytes(tokens.NONCE_BYTES),
            romanise=anyascii,
            chance=[secrets.randbits(40) for _ in range(TAG_TRIES)],
            request=None
            if key is None
            else operations.registration_request(registration, path=path, key=key),
            now=self.now(),
            limits=self.limits,
        )
        registered = await self.execute(operation)
        if isinstance(registered, tuple):
            return Registered(self._signed_in(*registered, privacy), replayed=False)
        user, known_hash = await self.read(
            lambda reader: (reader.user(registered), reader.password_hash(registered))
        )
        if not await self._hasher.matches(known_hash, password, network=network):
            raise IdempotencyKeyReused
        return Registered(await self._open_session(users.found(user), device, privacy), replayed=True)

    async def log_in(self, command: LogIn, *, device: str, network: str, privacy: Privacy) -> SignedIn:
        """A new session, if the password matches; `network` is the request's, for `PasswordHasher`.

        Raises `Invalid`, `InvalidCredentials`, `PasswordHasherBusy`.
        """
        credentials = users.prepare_log_in(command, self.limits, self._parse_email)
        user, known_hash = await self.read(operations.credentials(credentials.email_keys))
        matches = await self._hasher.matches(known_hash, credentials.password, network=network)
        return await self._open_session(users.log_in(user, password_matches=matches), device, privacy)

    def log_in_key(self, command: LogIn) -> str:
        """The key by which attempts to log in are counted, the same for all spellings of an e-mail."""
        return users.log_in_key(command.email, self.limits, self._parse_email)

    def session_of(self, command: RefreshTokens) -> tuple[SessionId, bytes | None]:
        """The session of a refresh token that this server signed, ended or not, with its nonce.

        Raises `RefreshTokenInvalid`.
        """
        claims = self._signer.read_refresh(command.refresh_token)
        return claims.session_id, claims.nonce

    async def refresh(self, command: RefreshTokens) -> TokenPair:
        """The successor of a refresh token; raises `RefreshTokenInvalid` and its two siblings."""
        claims = self._signer.read_refresh(command.refresh_token)
        rotated = await self.execute(operations.rotate(claims, now=self.now(), limits=self.limits))
        if isinstance(rotated, Refused):
            raise rotated
        return self._pair(rotated)

    async def _open_session(self, user: User, device: str, privacy: Privacy) -> SignedIn:
        opening = operations.open_session(
            user.id,
            device=device,
            nonce=self._random_bytes(tokens.NONCE_BYTES),
            now=self.now(),
            limits=self.limits,
        )
        session = await self.execute(opening)
        return self._signed_in(user, session, privacy)

    def _signed_in(self, user: User, session: Session, privacy: Privacy) -> SignedIn:
        # Reads nothing: after a failed read the response to a committed request would be an error.
        return SignedIn(shown(user, viewer=user.id, shares_chat=False, privacy=privacy), self._pair(session))

    def _pair(self, session: Session) -> TokenPair:
        access = tokens.access_claims(session, now=self.now(), limits=self.limits)
        return TokenPair(
            self._signer.sign_access(access),
            self._signer.sign_refresh(tokens.refresh_claims(session)),
            int(self.limits.access_ttl.total_seconds()),
        )

    # --- the passing of time ---

    async def keep_house(self) -> None:
        """Runs until cancelled: relays signals, closes the sockets of ended sessions, deletes expired
        data.
        """
        async with trio.open_nursery() as nursery:
            if self.relay is not None:
                nursery.start_soon(self.relay.run)
            nursery.start_soon(self._attendant.run)
            nursery.start_soon(self._presence_feed.run)
            nursery.start_soon(self._sweep)

    async def _sweep(self) -> None:
        sweep = 0
        while True:
            try:
                if sweep % FORGET_EVERY == 0:
                    while count := await self.execute(operations.forget(self.now(), self.limits)):
                        log.debug("Deleted expired responses and sessions", count=count)
                    while await self.execute(operations.drop_leases(self.now())):
                        pass
                await self.close_sockets_of_ended_sessions(self.hub.sessions())
                if self.relay is not None:
                    self.relay.compare_soon()
            except Exception:
                log.exception("Housekeeping failed; the server retries it")
            sweep += 1
            await trio.sleep(SWEEP_SECONDS)

    async def close_sockets_of_ended_sessions(self, sessions: Iterable[SessionId]) -> None:
        for some in parts(sessions, SESSIONS_AT_ONCE):
            for session_id, session in (await self.read(operations.sessions(some))).items():
                reason = tokens.over(session, now=self.now(), limits=self.limits)
                if reason is not None:
                    self.hub.close_session(session_id, reason)
