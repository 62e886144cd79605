"""Every setting, described once: an option of `messaging serve`, a `MESSAGING_…` variable, a key of a TOML
file.

The command line takes precedence over the environment, and the environment over the file.
"""

import os
import re
import tomllib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import attrs
import click
from attrs import field, frozen
from attrs.validators import ge
from click.core import ParameterSource

from adapters.cli.names import UnknownVariable, control_character, nearest_to, unknown_variables
from adapters.http_api.cors import ANY_ORIGIN, is_origin
from adapters.http_api.docstrings import attribute_docstrings
from adapters.listener import ListenerConfig, TrustedProxies, parse_proxies
from adapters.storage_sql.postgresql.config import PostgresqlConfig, without_secrets
from messaging_core.avatars import ANY_HOST, NO_HOST, OWN_HOST, AvatarHosts, parse_host
from messaging_core.limits import Limits, Rate
from messaging_core.privacy import EmailVisibility, Privacy

Command = TypeVar("Command", bound=Callable[..., Any])

PREFIX = "MESSAGING_"
FILE = "adapters.cli.settings.file"
"""The key under which click's context holds the path of the TOML file."""


@frozen(kw_only=True)
class Settings:
    """The server's settings; `limits` bounds the domain, `listener` what a peer may use, and `postgresql` the
    use of a shared database.
    """

    bind: tuple[str, int] = ("127.0.0.1", 8000)
    """Address to listen on, as HOST:PORT; port 0 takes a free one, [::1]:8000 is IPv6."""
    database: str = field(default="sqlite:///messaging.db", repr=without_secrets)
    """Database: sqlite:///FILE for one process, postgresql://USER:PASSWORD@HOST:PORT/NAME for any number of
    processes, or memory: for data that is lost when the server ends."""
    bus: str = field(default="", repr=False)
    """Bus for signals between processes that share a database: none, postgresql (the default with a
    PostgreSQL database), or nats://HOST:PORT/PREFIX with a prefix for each deployment."""
    signing_keys: str = field(default="", repr=False)
    """Secrets that sign tokens, as NAME:HEX; the first signs, all verify. By default the server creates one
    and stores it beside the database."""
    workers: int = field(default=1, validator=ge(1))
    """Processes that serve one address on this machine. Several need a PostgreSQL database, which they can
    share; limits of numbers and rates apply to each process separately."""
    cors_origins: str = "*"
    """Origins of the pages that may call, separated by spaces, such as https://app.example; * is any."""
    email_visibility: EmailVisibility = EmailVisibility.EVERYONE
    """Who sees a person's e-mail address: everyone, shared_chat (those who share a chat with the person) or
    self (the person alone)."""
    avatar_hosts: AvatarHosts | None = None
    """Hosts that avatars may be loaded from; a host learns who looks at its pictures. none, own (the server
    itself, named by the request's Host), any, or hosts separated by spaces, such as own cdn.example. Default:
    any where --bind is a loopback address, otherwise own."""
    rate_limits: bool = True
    """Whether requests are limited in rate; turn it off for load tests only."""
    socket_profile: str = "1"
    """The profile of a socket whose handshake names none: 1, the checklist's two events; or 2, every event,
    with numbers to resume from, and commands."""
    docs: bool = True
    """Whether /docs, /openapi.json and /asyncapi.json are served."""
    client: bool = True
    """Whether the reference client, a messenger in the browser, is served at /."""
    body_bytes_without_token: int = field(default=65_536, validator=ge(1024))
    """The largest body of a request without authentication (registration, login, refresh); 413 beyond.
    Anybody may send it, so it is less than `body_bytes`; usual bodies have some hundred bytes."""
    hashing_threads: int = field(default=1, validator=ge(1))
    """Passwords that are hashed at a time; each takes a core and 19 MiB. At most 64 more wait, at most 32 of
    one address, 503 beyond; the address with the fewest recent ones goes first."""
    strict_settings: bool = False
    """Whether an unknown variable that begins with MESSAGING_ prevents the start, as an unknown name in the
    TOML file always does; otherwise the server logs a warning. On in deploy/messaging.toml."""
    log_level: str = "info"
    """The lowest level that is logged: debug, info, warning or error."""
    log_format: str = "auto"
    """console, json, or auto: console on a terminal, json elsewhere."""
    limits: Limits = field(factory=Limits)
    listener: ListenerConfig = field(factory=ListenerConfig)
    postgresql: PostgresqlConfig = field(factory=PostgresqlConfig)

    @property
    def privacy(self) -> Privacy:
        hosts = self.avatar_hosts
        if hosts is None:
            hosts = ANY_HOST if is_loopback(self.bind[0]) else OWN_HOST
        return Privacy(self.email_visibility, hosts)

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(self.cors_origins.split())


class HostPort(click.ParamType[tuple[str, int]]):
    """HOST:PORT, with the host of an IPv6 address in brackets."""

    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            self.fail(f"{value!r} is not HOST:PORT, such as 127.0.0.1:8000", param, ctx)
        if int(port) > 65535:
            self.fail(f"{port} is no port: they end at 65535", param, ctx)
        return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


class Duration(click.ParamType[timedelta]):
    """A number of seconds, or numbers with units: 90s, 15m, 12h, 30d, 1h30m."""

    name = "duration"
    units: ClassVar = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
    pattern = r"(?:[0-9]+[dhms])+"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        text = f"{value}s" if str(value).isdigit() else str(value)
        if len(text) > 40 or not re.fullmatch(self.pattern, text):
            self.fail(f"{value!r} is not a duration such as 900, 15m, 12h or 30d", param, ctx)
        parts = re.findall(r"([0-9]+)([dhms])", text)
        return timedelta(seconds=min(sum(int(n) * self.units[unit] for n, unit in parts), 10**10))


class Seconds(click.ParamType[float]):
    """A number of seconds, with or without the unit: 10, 0.5, 10s, 1m30s; `whole` allows no fraction."""

    name = "seconds"

    def __init__(self, *, whole: bool = False) -> None:
        self._number = int if whole else float

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            return self._number(text.removesuffix("s"))
        except ValueError:
            if re.fullmatch(Duration.pattern, text):
                return self._number(Duration().convert(text, param, ctx).total_seconds())
            self.fail(f"{value!r} is not a number of seconds such as 10 or 10s", param, ctx)


class RateType(click.ParamType[Rate]):
    """PER_SECOND:BURST, such as 20:100."""

    name = "per_second:burst"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Rate:
        if isinstance(value, Rate):
            return value
        per_second, _, burst = str(value).partition(":")
        try:
            return Rate(float(per_second), int(burst))
        except ValueError:
            self.fail(f"{value!r} is not PER_SECOND:BURST, such as 20:100, both above zero", param, ctx)


class Proxies(click.ParamType[TrustedProxies]):
    """Addresses and networks, separated by spaces."""

    name = "addresses"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TrustedProxies:
        if isinstance(value, TrustedProxies):
            return value
        try:
            return parse_proxies(str(value))
        except ValueError as error:
            self.fail(f"{error}; give addresses and networks, such as 127.0.0.1 10.0.0.0/8", param, ctx)


class Values(click.Choice[StrEnum]):
    """A member of an enumeration, written as its value."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        del ctx
        return str(choice)


class Origins(click.ParamType[str]):
    """Origins separated by spaces, or *."""

    name = "origins"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        for origin in str(value).split():
            if origin != ANY_ORIGIN and not is_origin(origin):
                self.fail(
                    f"{origin!r} is not an origin as browsers send it: SCHEME://HOST or SCHEME://HOST:PORT "
                    "in lower case, without a path and without the scheme's usual port. Write "
                    "https://app.example, several with spaces between them, or * for any",
                    param,
                    ctx,
                )
        return str(value)


class Hosts(click.ParamType[AvatarHosts]):
    """`none`, `any`, or a list of hosts separated by spaces, in which `own` is the server itself."""

    name = "hosts"
    whole: ClassVar = {"none": NO_HOST, "any": ANY_HOST}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AvatarHosts:
        if isinstance(value, AvatarHosts):
            return value
        words = str(value).split()
        if len(words) == 1 and words[0] in self.whole:
            return self.whole[words[0]]
        hosts = {word: parse_host(word) for word in words if word != "own"}
        for word, host in hosts.items():
            # A content security policy cannot name an IPv6 address.
            if host is None or host.startswith("[") or word in self.whole:
                self.fail(
                    f"{word!r} is not a host that avatars can be loaded from. Write none, any, or hosts with "
                    "spaces between them: own, cdn.example, cdn.example:8443; a name in another alphabet in "
                    "its ASCII form, xn--…",
                    param,
                    ctx,
                )
        if not words:
            self.fail("names no host; write none for no avatars", param, ctx)
        return AvatarHosts(own="own" in words, hosts=frozenset(filter(None, hosts.values())))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on; False for names other than localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


LISTS = {"cors_origins", "signing_keys", "trusted_proxies", "avatar_hosts"}
"""Settings of several parts, separated by white space, which may be line ends and tabs."""

UNSETTABLE = {"host", "port", "inherited", "uncounted_addresses", "refusal_headers"}
"""Fields that are no settings: `bind` sets some, the composition others, and the rest need no change."""

PARTS: dict[str, type[attrs.AttrsInstance]] = {
    "limits": Limits,
    "listener": ListenerConfig,
    "postgresql": PostgresqlConfig,
}
CLASSES: tuple[type[attrs.AttrsInstance], ...] = (Settings, *PARTS.values())

OF_THEIR_OWN: dict[str, click.ParamType[Any]] = {
    "cors_origins": Origins(),
    "avatar_hosts": Hosts(),
    "email_visibility": Values(EmailVisibility),
    "database_connect_time": Seconds(whole=True),
    "socket_profile": click.Choice(["1", "2"]),
    "log_level": click.Choice(["debug", "info", "warning", "error"]),
    "log_format": click.Choice(["auto", "console", "json"]),
}
TYPES: dict[Any, click.ParamType[Any]] = {
    tuple[str, int]: HostPort(),
    timedelta: Duration(),
    Rate: RateType(),
    TrustedProxies: Proxies(),
    int: click.INT,
    float: Seconds(),
    str: click.STRING,
}


class CleanOption(click.Option):
    """An option whose value has no control character, whatever its source."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        if isinstance(value, str):
            found = control_character(value, lines=self.name in LISTS)
            if found is not None:
                raise click.BadParameter(f"the value {found}", ctx=ctx, param=self)
        return super().type_cast_value(ctx, value)


class SettingOption(CleanOption):
    """An option whose help is its field's docstring, which is read for --help only, not at each start."""

    def __init__(self, *parts: Any, field_of: type, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._field_of = field_of

    def get_error_hint(self, ctx: click.Context | None) -> str:
        name = str(self.name)
        return _key_in_file(name, ctx) or super().get_error_hint(ctx)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = attribute_docstrings(self._field_of)[str(self.name)]
        return super().get_help_record(ctx)


def settings_options(command: Command) -> Command:
    """Give a click command an option for each setting, including those of the parts, and `--config`."""
    for class_ in (*reversed(PARTS.values()), Settings):
        for attribute in reversed(_settable(class_)):
            command = _option(class_, attribute)(command)
    return _config_option(command)


def database_option(command: Command) -> Command:
    """Give a click command the option `--database`, and `--config`."""
    attribute = attrs.fields_dict(Settings)["database"]
    return _config_option(_option(Settings, attribute)(command))


def _config_option(command: Command) -> Command:
    config = click.option(
        "--config",
        cls=CleanOption,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar=f"{PREFIX}CONFIG",
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="A TOML file of settings, by their names with underscores: access_ttl = '20m'.",
    )
    return config(command)


def settings_from(options: dict[str, Any]) -> Settings:
    """The settings from click's parsed options; raises `click.UsageError` for a value outside its range."""
    values = {name: {a.name: options.pop(a.name) for a in _settable(part)} for name, part in PARTS.items()}
    try:
        parts: dict[str, Any] = {name: part(**values[name]) for name, part in PARTS.items()}
        return Settings(**options, **parts)
    except ValueError as error:
        raise click.UsageError(_refusal(str(error.args[0]))) from None


def _refusal(reason: str) -> str:
    """The reason of a `ValueError` from attrs or a settings class, with field names replaced by options."""
    if reason.startswith("'"):
        reason = re.sub(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)", _as_written, reason)
        reason = re.sub(r": ([^:]*)$", r", not \1.", reason)
    return re.sub(r"'(\w+)'|\b([a-z]+_\w+)", lambda name: setting_named(name[1] or name[2]), reason)


def _as_written(duration: re.Match[str]) -> str:
    """A `timedelta` printed by attrs, in the notation of settings."""
    days, hours, minutes, seconds = (int(number or 0) for number in duration.groups())
    return str(_shown(timedelta(days, seconds, minutes=minutes, hours=hours)))


def _settable(class_: type[attrs.AttrsInstance]) -> list["attrs.Attribute[Any]"]:
    """The fields of a class that are settings."""
    return [a for a in attrs.fields(class_) if a.name not in {*PARTS, *UNSETTABLE}]


def _option(class_: type, attribute: "attrs.Attribute[Any]") -> Callable[[Command], Command]:
    flag = attribute.name.replace("_", "-")
    kind = click.BOOL if attribute.type is bool else OF_THEIR_OWN.get(attribute.name) or TYPES[attribute.type]
    return click.option(
        f"--{flag}/--no-{flag}" if attribute.type is bool else f"--{flag}",
        attribute.name,
        default=attribute.default,
        show_default=_shown(attribute.default),
        envvar=PREFIX + attribute.name.upper(),
        show_envvar=True,
        type=kind,
        cls=SettingOption,
        field_of=class_,
    )


def setting_named(name: str) -> str:
    """A setting's name in error texts: its key in the TOML file if its value is from there."""
    key = _key_in_file(name, click.get_current_context(silent=True))
    return key or f"--{name.replace('_', '-')} ({PREFIX}{name.upper()})"


def _key_in_file(name: str, context: click.Context | None) -> str | None:
    """The key of a setting whose value is from the TOML file; None for a value from another source."""
    if context is None or context.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP:
        return None
    return _key_of(context.meta[FILE], name)


def _key_of(path: Path, name: str) -> str:
    return f"{name} in {path} (--{name.replace('_', '-')})"


def _shown(default: Any) -> str | bool:
    match default:
        case timedelta(days=0, seconds=0):
            return "0s"
        case timedelta():
            seconds = int(default.total_seconds())
            unit, size = next((u, s) for u, s in Duration.units.items() if seconds % s == 0)
            return f"{seconds // size}{unit}"
        case Rate(per_second, burst):
            return f"{per_second:.3g}:{burst}"
        case (host, port):
            return f"{host}:{port}"
        case "" | TrustedProxies():
            return False
        case StrEnum():
            return default.value
        case _:
            return True


def _read_config(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    written = path.read_bytes()
    for mark, encoding in ((BOM_UTF8, "UTF-8"), (BOM_UTF16_LE, "UTF-16"), (BOM_UTF16_BE, "UTF-16")):
        if written.startswith(mark):
            raise click.BadParameter(
                f"{path} begins with the byte-order mark of {encoding} ({mark.hex(' ').upper()}); "
                "save it as UTF-8 without one"
            )
    try:
        table = tomllib.loads(written.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not TOML: {error}") from None
    unknown = sorted(table.keys() - _names())
    if unknown:
        meant = [f"{name} (did you mean {near}?)" for name in unknown if (near := nearest_to(name, _names()))]
        others = [name for name in unknown if nearest_to(name, _names()) is None]
        raise click.BadParameter(f"{path}: there is no setting {', '.join([*meant, *others])}; see --help")
    context.meta[FILE] = path
    context.default_map = {
        **(context.default_map or {}),
        **{name: _written(path, name, value) for name, value in table.items()},
    }


def misspelt() -> tuple[UnknownVariable, ...]:
    """The variables of the environment that have the settings' prefix and are no settings."""
    variables = {PREFIX + name.upper() for name in _names()}
    return tuple(unknown_variables(os.environ, variables, prefix=PREFIX))


@cache
def _names() -> frozenset[str]:
    return frozenset(attribute.name for class_ in CLASSES for attribute in _settable(class_))


def _written(path: Path, name: str, value: object) -> str:
    """A value of the file in the notation of the command line, so that both are checked alike."""
    match value:
        case str():
            return value
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case _:
            raise click.BadParameter(f"{_key_of(path, name)} must be a string, a number, true or false")
