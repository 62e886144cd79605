"""`messaging serve`: what it takes, what it refuses and how clearly, what it says when it starts."""

import json
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

import attrs
import click
import pytest
import trio
from click.testing import CliRunner, Result

from adapters.cli import serve as program
from adapters.cli.main import main
from adapters.cli.names import control_character
from adapters.cli.settings import PARTS, UNSETTABLE, HostPort, Hosts, Settings, misspelt
from messaging_core.avatars import ANY_HOST, NO_HOST, OWN_HOST, AvatarHosts
from tests.server.clients import browser, expect, register
from tests.server.servers import process, run_to_its_end

OPTIONS = {parameter.name: parameter for parameter in program.serve.params if parameter.name != "help"}


def serve(*arguments: str, **variables: str) -> Result:
    """The command in this process, up to where it would start to serve: there it ends with status 99."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "configure_logs", lambda *_: sys.exit(99))
        return CliRunner().invoke(main, ["serve", *arguments], env=variables)


def refuses(result: Result, option: str) -> str:
    """It ended with click's status for wrong usage, and named the setting in both of its forms."""
    assert result.exit_code == 2, result.output
    flat = " ".join(result.output.split())
    assert f"--{option}" in flat
    assert f"MESSAGING_{option.upper().replace('-', '_')}" in flat
    assert "Traceback" not in flat
    return flat


# --- the settings -------------------------------------------------------------------------------------------


def test_help_shows_every_setting() -> None:
    """Each setting has its option, its variable, its default where it has one, and a line of explanation."""
    result = serve("--help")
    assert result.exit_code == 0
    told = " ".join(result.output.split())
    classes: tuple[type[attrs.AttrsInstance], ...] = (Settings, *PARTS.values())
    settings = {attribute.name for class_ in classes for attribute in attrs.fields(class_)}
    settings -= {*PARTS, *UNSETTABLE}
    assert settings <= set(OPTIONS)
    for name in OPTIONS:
        assert f"--{str(name).replace('_', '-')}" in told
        assert f"MESSAGING_{str(name).upper()}" in told
    assert "default: (15m)" in told


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_of_the_program(arguments: list[str]) -> None:
    """Without a command the program says which there are."""
    result = CliRunner().invoke(main, arguments)
    assert "serve" in result.output
    assert "Traceback" not in result.output


def test_version() -> None:
    """`messaging --version` names the distribution's version."""
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert version("messaging-core") in result.output


WRONG = {
    "bind": [
        "nonsense",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        ":８０",
    ],
    "access-ttl": ["14m59s", "0", "-1", "15", "15x", "1.5h", "m", "nan", "", "9" * 50, "40d"],
    "refresh-ttl": ["6d23h", "0", "never"],
    "refresh-grace": ["-1", "x"],
    "idempotency-ttl": ["0", "0s"],
    "login-rate": ["0:1", "1:0", "-1:1", "nan:1", "inf:1", "x", "1", "1:1:1", "1:1.5"],
    "message-rate": ["", "20", ":100"],
    "message-characters": ["0", "-1", "100001", "4k", "1.0", "1e3"],
    "group-members": ["1", "100001"],
    "password-min-characters": ["7", "129"],
    "history-page": ["0", "201"],
    "sockets-per-user": ["0"],
    "body-bytes": ["0", "-1", "1MB"],
    "hashing-threads": ["0", "-1", "many"],
    "workers": ["0", "-1", "auto"],
    "log-level": ["loud", ""],
    "log-format": ["xml"],
    "cors-origins": [
        "app.example",
        "https://app.example/",
        "https://a.example,https://b.example",
        "https://a.example https://b.example/chat",
        "https://App.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example:65536",
        "https://",
        "https://*.example",
        "https://приложение.example",
        "null",
    ],
    "email-visibility": ["", "nobody", "EVERYONE"],
    "avatar-hosts": [
        *("", " ", "https://cdn.example", "cdn.example/", "*.cdn.example", "cdn.example,media.example"),
        *("cdn.example;", "'self'", "any own", "none cdn.example", "bücher.example", "cdn.example.", "127.1"),
        *("[::1]:8000", "cdn.example:x", "cdn.example:123456"),
    ],
    "trusted-proxies": ["proxy.example", "10.0.0.1/8", "*", "1.2.3.4;5.6.7.8"],
    "head-time": ["0", "-1", "nan", "x"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in WRONG.items() for value in values]
)
def test_wrong_values_are_refused_by_the_settings_name(option: str, value: str) -> None:
    """On the command line, in the environment or in the file: the setting is named, and nothing starts."""
    refuses(serve(f"--{option}", value), option)
    if value:
        refuses(serve(**{f"MESSAGING_{option.upper().replace('-', '_')}": value}), option)


@pytest.mark.parametrize("value", ["maybe", "2", "oui"])
def test_wrong_switches_are_refused(value: str) -> None:
    """A switch is on or off, true or false, yes or no, 1 or 0."""
    refuses(serve(MESSAGING_RATE_LIMITS=value), "rate-limits")


@pytest.mark.parametrize(
    "origins",
    [
        *(
            "",
            "*",
            "https://app.example",
            "http://localhost:5173 https://app.example",
            "https://app.example:8443",
        ),
        *("http://[::1]:3000", "http://app.example:443", "capacitor://localhost", "https://xn--p1ai.example"),
    ],
)
def test_what_browsers_send_is_an_origin(origins: str) -> None:
    """Any scheme, an address in place of a name, and any port but the one that the scheme implies."""
    assert serve("--cors-origins", origins).exit_code == 99


@pytest.mark.parametrize(
    ("bind", "hosts", "expected"),
    [
        ("127.0.0.1:8000", None, ANY_HOST),
        ("127.9.9.9:8000", None, ANY_HOST),
        ("[::1]:8000", None, ANY_HOST),
        ("localhost:8000", None, ANY_HOST),
        ("0.0.0.0:8000", None, OWN_HOST),
        ("[::]:8000", None, OWN_HOST),
        ("192.168.1.10:8000", None, OWN_HOST),
        ("chat.example:8000", None, OWN_HOST),
        ("0.0.0.0:8000", "any", ANY_HOST),
        ("127.0.0.1:8000", "none", NO_HOST),
        ("127.0.0.1:8000", "own", OWN_HOST),
        (
            "127.0.0.1:8000",
            " own  CDN.example media.example:8443 ",
            AvatarHosts(own=True, hosts=frozenset({"cdn.example", "media.example:8443"})),
        ),
    ],
)
def test_whose_avatars_are_shown(bind: str, hosts: str | None, expected: AvatarHosts) -> None:
    """By default any host's where this machine alone can call, and where others can the server's own."""
    given = None if hosts is None else Hosts().convert(hosts, None, None)
    settings = Settings(bind=HostPort().convert(bind, None, None), avatar_hosts=given)
    assert settings.privacy.avatar_hosts == expected


def test_the_refusal_of_an_origin_says_what_to_write() -> None:
    """Which of several is none, and how one is written."""
    told = refuses(serve("--cors-origins", "https://a.example b.example"), "cors-origins")
    assert "'b.example' is not an origin" in told
    assert "Write https://app.example, several with spaces between them, or * for any" in told


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("bind", "localhost:99999", "99999 is no port: they end at 65535"),
        ("access-ttl", "5m", "must be >= 15m, not 5m"),
        ("access-ttl", "14m59s", "must be >= 15m, not 899s"),
        ("refresh-ttl", "6d23h", "must be >= 7d, not 167h"),
        ("idempotency-ttl", "0", "must be > 0s, not 0s"),
        ("drain-time", "soon", "is not a number of seconds such as 10 or 10s"),
        ("database-connect-time", "2.5", "is not a number of seconds"),
    ],
)
def test_a_refusal_says_what_the_bound_is(option: str, value: str, told: str) -> None:
    """As it would be written."""
    assert told in refuses(serve(f"--{option}", value), option)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("10", 10), ("10s", 10), ("0.5", 0.5), ("0.5s", 0.5), ("1m30s", 90), ("2m", 120)],
)
def test_times_take_their_unit(told: str, seconds: float) -> None:
    """Seconds with and without it, and what other durations take."""
    convert = OPTIONS["drain_time"].type_cast_value
    assert convert(click.Context(program.serve), told) == seconds
    if seconds == int(seconds):
        whole = OPTIONS["database_connect_time"].type_cast_value(click.Context(program.serve), told)
        assert (whole, type(whole)) == (seconds, int)


def test_help_names_the_unit_of_times() -> None:
    """Not the kind of number."""
    told = serve("--help").output
    assert "FLOAT" not in told
    assert "--drain-time SECONDS" in told
    assert "--database-connect-time SECONDS" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bind", "'x'"),
        ("access_ttl", "'1m'"),
        ("head_time", "0"),
        ("message_characters", "1.5"),
        ("bus", "[1]"),
    ],
)
def test_a_wrong_value_in_the_file_is_looked_for_there(tmp_path: Path, name: str, value: str) -> None:
    """The refusal names the file and the key in it, and no variable in the environment."""
    file = tmp_path / "messaging.toml"
    file.write_text(f"{name} = {value}")
    result = serve("--config", str(file))
    told = " ".join(result.output.split())
    assert result.exit_code == 2
    assert name in told
    assert str(file) in result.output.replace("\n", "")
    assert f"MESSAGING_{name.upper()}" not in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bus", "x"),
        ("database", "x"),
        ("database", "postgresql://h/n?unknown=1"),
        ("signing_keys", "x"),
        ("workers", "2"),
    ],
)
async def test_what_only_the_server_finds_wrong_is_looked_for_there_too(
    tmp_path: Path, name: str, value: str
) -> None:
    """The refusal begins with the key and the file; the exit status is that of a wrong setting."""
    (tmp_path / "messaging.toml").write_text(f"{name} = '{value}'")
    keys = {} if name == "signing_keys" else {"MESSAGING_SIGNING_KEYS": f"k1:{'0' * 64}"}
    ended = await run_to_its_end(
        "serve",
        "--config",
        "messaging.toml",
        directory=tmp_path,
        variables={"MESSAGING_BIND": "127.0.0.1:0", **keys},
    )
    assert ended.returncode == 2
    option = name.replace("_", "-")
    assert ended.stderr.startswith(f"Error: {name} in messaging.toml (--{option}): ")
    assert ended.stderr.count("\n") == 1


def test_unknown_options_are_refused() -> None:
    """A misspelt option is not passed over."""
    result = serve("--acess-ttl", "20m")
    assert result.exit_code == 2
    assert "--acess-ttl" in result.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("acess_ttl = '20m'", "acess_ttl (did you mean access_ttl?)"),
        ("xyz = 1", "there is no setting xyz;"),
        ("\ufeffdocs = true", "begins with the byte-order mark of UTF-8 (EF BB BF)"),
        ('database = "sqlite:///x.db\\r"', "database in"),
        ('database = "sqlite:///x.db\\r"', "has a carriage return (U+000D) at its end"),
        ('database = "sqlite:///\\uFEFFx.db"', "has a byte-order mark (U+FEFF) as character 11 of 15"),
        ("cors_origins = 'https://a.example\u2028'", "has line separator (U+2028)"),
        ("[limits]\naccess_ttl = '20m'", "limits"),
        ("config = 'other.toml'", "config"),
        ("access_ttl = ", "not TOML"),
        ("access_ttl = '1m'", "--access-ttl"),
        ("access_ttl = [1]", "--access-ttl"),
        ("access_ttl = true", "--access-ttl"),
        ("message_characters = 1.5", "--message-characters"),
        ("message_characters = true", "--message-characters"),
        ("rate_limits = 'maybe'", "--rate-limits"),
        ("bind = 8000", "--bind"),
        ("bind = ['127.0.0.1', 8000]", "--bind"),
        ("body_bytes = {a = 1}", "--body-bytes"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, told: str) -> None:
    """A file with an unknown key, a wrong value, or no TOML at all is refused, and what is wrong is named."""
    file = tmp_path / "messaging.toml"
    file.write_text(text)
    result = serve("--config", str(file))
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_files_that_are_none(tmp_path: Path) -> None:
    """A file that is missing, a directory, not text, or in UTF-16, whose mark is named."""
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "utf-16").write_text("docs = true", encoding="utf-16")
    assert "byte-order mark of UTF-16 (FF FE)" in serve("--config", str(tmp_path / "utf-16")).output
    for name in ("missing", ".", "binary", "utf-16", "file.toml\r"):
        result = serve("--config", str(tmp_path / name))
        assert result.exit_code == 2
        assert "--config" in result.output


async def test_what_is_nearer_counts(tmp_path: Path) -> None:
    """The command line counts before the environment, and that before the file."""
    file = tmp_path / "messaging.toml"
    file.write_text("access_ttl = '20m'\nrefresh_ttl = '8d'\nmessage_characters = 5\ndatabase = 'memory:'\n")
    variables = {
        "MESSAGING_CONFIG": str(file),
        "MESSAGING_ACCESS_TTL": "30m",
        "MESSAGING_MESSAGE_CHARACTERS": "6",
    }
    async with (
        process(tmp_path, "--message-characters", "7", variables=variables) as server,
        browser(server) as http,
    ):
        assert "memory:" in server.output
        alice = await register(server, http, "Alice")
        bob = await register(server, http, "Bob")
        answer = await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token})
        assert expect(answer, 200)["expires_in"] == 1800
        chat = await alice.direct_chat_with(bob)
        await alice.send(chat, "1234567")
        body = {"chat_id": chat, "type": "text", "content": "12345678"}
        expect(await alice.ask("POST", "/messages", body), 422)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("database", "sqlite:///x.db\r", "has a carriage return (U+000D) at its end; lines of a file"),
        ("bind", "127.0.0.1:0\r", "has a carriage return (U+000D) at its end"),
        ("docs", "off\r", "has a carriage return (U+000D) at its end"),
        ("database", "sqlite:///a\x1b[31m.db", "has an escape (U+001B) as character 12 of 19"),
        ("database", "sqlite:///a\n.db", "has a line feed (U+000A) as character 12 of 15"),
        ("signing-keys", "k1:00\x7f", "has a control character (U+007F) at its end"),
        (
            "cors-origins",
            "https://a.example\r\nhttps://b.example",
            "has a carriage return (U+000D) as character 18",
        ),
    ],
)
def test_control_characters_are_named(option: str, value: str, told: str) -> None:
    """From a variable as from an option, by the place and not with the value, which may be a secret."""
    variable = f"MESSAGING_{option.upper().replace('-', '_')}"
    result = CliRunner().invoke(main, ["serve"], env={variable: value})
    assert told in refuses(result, option)
    assert value not in result.output


def test_lists_may_stand_on_lines() -> None:
    """Where white space separates, a line feed does."""
    assert control_character("https://a.example\n\thttps://b.example", lines=True) is None


VARIABLES = {
    "MESSAGING_CORS_ORIGIN": "MESSAGING_CORS_ORIGINS",
    "MESSAGING_SIGNING_KEY": "MESSAGING_SIGNING_KEYS",
    "messaging_database": "MESSAGING_DATABASE",
    "MESSAGING_Bind": "MESSAGING_BIND",
    "\ufeffMESSAGING_WORKERS": "MESSAGING_WORKERS",
    "MESSAGING_XYZZY": None,
    "MESSAGING_": None,
    "MESSAGING_PORT": None,
    "MESSAGING_DATABASE": "known",
    "MESSAGING_MESSAGE_CHARACTERS": "known",
    "MESSAGING_CONFIG": "known",
    "MESSAGING_SUPERVISED": "known",
    "MESSAGING_TEST_POSTGRESQL": "known",
    "MESSAGING_SERVICE_HOST": "known",
    "MESSAGING_SERVICE_PORT_HTTP": "known",
    "MESSAGING_PORT_8000_TCP_ADDR": "known",
    "MESSAGINGS": "known",
    "PATH": "known",
}


def test_variables_that_set_nothing_are_told_from_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the nearest right name; our other variables, and what Kubernetes makes, are no mistake."""
    monkeypatch.setattr(os, "environ", dict.fromkeys(VARIABLES, "8000"))
    found = {mistake.name: mistake.nearest for mistake in misspelt()}
    expected = {
        name.replace("\ufeff", "<a byte-order mark (U+FEFF)>"): nearest
        for name, nearest in VARIABLES.items()
        if nearest != "known"
    }
    assert found == {**expected, "MESSAGING_PORT": found["MESSAGING_PORT"]}
    monkeypatch.setattr(os, "environ", {"MESSAGING_PORT": "tcp://10.0.0.1:8000"})
    assert misspelt() == ()


async def test_an_unknown_variable_is_warned_of(tmp_path: Path) -> None:
    """In the log before anything else, and in the greeting, once; it is no setting of its workers' either."""
    variables = {"MESSAGING_CORS_ORIGIN": "https://app.example"}
    async with process(tmp_path, variables=variables) as server:
        await server.stop()
    told = "MESSAGING_CORS_ORIGIN is no setting and has no effect; the nearest is MESSAGING_CORS_ORIGINS."
    assert server.output.count(told) == 1
    lines = [json.loads(line) for line in server.log.splitlines()]
    (warned,) = [line for line in lines if line["event"] == "unknown_variable"]
    assert (warned["name"], warned["nearest"]) == ("MESSAGING_CORS_ORIGIN", "MESSAGING_CORS_ORIGINS")
    assert lines[0] == warned


# --- what keeps it from starting ----------------------------------------------------------------------------


MISTAKEN, MAY_PASS = 2, 1
"""Exit statuses: deploy/messaging.service tries again after the latter."""


async def ends_with_one_line(directory: Path, status: int, *arguments: str, **variables: str) -> str:
    """It ends with this status, and says why in one line without a traceback."""
    ended = await run_to_its_end("serve", *arguments, directory=directory, variables=variables)
    told = ended.stdout + ended.stderr
    assert ended.returncode == status, told
    assert "Traceback" not in told
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


async def test_production_settings_refuse_an_unknown_variable(tmp_path: Path) -> None:
    """As `deploy/messaging.toml` has them: nobody's origin is allowed by a typing error."""
    told = await ends_with_one_line(
        tmp_path, MISTAKEN, "--strict-settings", MESSAGING_CORS_ORIGIN="https://app.example"
    )
    assert "MESSAGING_CORS_ORIGIN is no setting" in told
    assert "MESSAGING_CORS_ORIGINS" in told
    assert not (tmp_path / "messaging.db").exists()


async def test_a_migration_warns_of_an_unknown_variable(tmp_path: Path) -> None:
    """It would go to another database than the one that was meant."""
    variables = {"MESSAGING_DATABSE": "sqlite:///other.db"}
    ended = await run_to_its_end("migrate", directory=tmp_path, variables=variables)
    assert ended.returncode == 0
    assert "MESSAGING_DATABASE" in ended.stderr


async def test_a_busy_port(tmp_path: Path) -> None:
    """The address is named."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        arguments = ("--bind", f"127.0.0.1:{port}", "--database", "memory:")
        line = await ends_with_one_line(tmp_path, MAY_PASS, *arguments)
    assert "--bind" in line
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line


async def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    """An address of another machine (RFC 5737) cannot be listened on."""
    line = await ends_with_one_line(tmp_path, MAY_PASS, "--bind", "192.0.2.1:8000", "--database", "memory:")
    assert "192.0.2.1:8000" in line


@pytest.mark.parametrize(
    "database",
    [
        "postgresql://localhost/x",
        "mysql://x",
        "sqlite://",
        "sqlite:///",
        "sqlite:///x.db?mode=ro",
        "messaging.db",
        "",
    ],
)
async def test_addresses_that_are_none(tmp_path: Path, database: str) -> None:
    """No database can be there, or not without keys: a wrong setting."""
    options = ("--bind", "127.0.0.1:0", "--database", database)
    line = await ends_with_one_line(tmp_path, MISTAKEN, *options)
    assert "database" in line.lower()
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - an empty directory


@pytest.mark.parametrize(
    "file",
    ["/nowhere/at/all.db", "file/messaging.db", "noise.db", "directory", "/proc/x.db"],
)
async def test_databases_that_cannot_be(tmp_path: Path, file: str) -> None:
    """A directory that is missing or cannot be written to, a file that is something else: nothing is made."""
    (tmp_path / "file").touch()
    (tmp_path / "noise.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "directory").mkdir()
    before = set(tmp_path.iterdir())  # noqa: ASYNC240 - three files
    options = ("--bind", "127.0.0.1:0", "--database", f"sqlite:///{file}")
    line = await ends_with_one_line(tmp_path, MAY_PASS, *options)
    assert file in line
    assert "keys" not in line
    assert set(tmp_path.iterdir()) == before  # noqa: ASYNC240


async def test_a_missing_directory_can_be_made(tmp_path: Path) -> None:
    """How is said, whether the keys are given or would be made beside the database."""
    options = ("--bind", "127.0.0.1:0", "--database", "sqlite:///missing/messaging.db")
    for variables in ({}, {"MESSAGING_SIGNING_KEYS": "k1:" + "0f" * 32}):
        line = await ends_with_one_line(tmp_path, MAY_PASS, *options, **variables)
        assert f"mkdir -p {tmp_path}/missing" in line


@pytest.mark.parametrize("bus", ["foo", "postgresql", "nats://localhost"])
async def test_a_bus_that_cannot_be(tmp_path: Path, bus: str) -> None:
    """There is none of this name, or nobody to tell anything: a wrong setting."""
    line = await ends_with_one_line(tmp_path, MISTAKEN, "--database", "memory:", "--bus", bus)
    assert "--bus (MESSAGING_BUS)" in line


async def test_a_database_that_is_in_use(tmp_path: Path) -> None:
    """One process owns an SQLite file; the second one says so and leaves it alone."""
    async with process(tmp_path):
        line = await ends_with_one_line(tmp_path, MAY_PASS, "--bind", "127.0.0.1:0")
    assert "messaging.db" in line


@pytest.mark.parametrize("keys", ["x", "a:zz", "a:" + "00" * 31])
async def test_signing_keys_that_are_none(tmp_path: Path, keys: str) -> None:
    """The setting is named, the secret is not repeated."""
    line = await ends_with_one_line(tmp_path, MISTAKEN, "--bind", "127.0.0.1:0", MESSAGING_SIGNING_KEYS=keys)
    assert "MESSAGING_SIGNING_KEYS" in line
    assert "00" * 31 not in line


async def test_a_damaged_file_of_keys(tmp_path: Path) -> None:
    """Nothing new is made in its place: that would log everybody out."""
    keys = tmp_path / "messaging.db.keys"
    keys.write_text("damaged")
    line = await ends_with_one_line(tmp_path, MAY_PASS, "--bind", "127.0.0.1:0")
    assert "messaging.db.keys" in line
    assert keys.read_text() == "damaged"


# --- what it says when it starts ----------------------------------------------------------------------------


async def test_the_greeting(tmp_path: Path) -> None:
    """The address, the documentation's, the database, the version, and what is unfit for production."""
    async with process(tmp_path) as server:
        await server.stop()
    told = server.output
    assert version("messaging-core") in told
    assert re.search(rf"^  API +{server.address}/api/v1$", told, re.MULTILINE)
    assert re.search(rf"^  Docs +{server.address}/docs$", told, re.MULTILINE)
    assert re.search(r"^  Database +sqlite:///messaging\.db$", told, re.MULTILINE)
    warnings = re.findall(r"^  Warning +(.+)$", told, re.MULTILINE)
    assert any("origin" in warning for warning in warnings)
    assert any("--email-visibility" in warning for warning in warnings)
    assert any("--avatar-hosts" in warning for warning in warnings)
    assert any("messaging.db.keys" in warning for warning in warnings)
    secret = (tmp_path / "messaging.db.keys").read_text().strip().rpartition(":")[2]
    assert secret not in told + server.log


async def test_fit_for_production_there_is_no_warning(tmp_path: Path) -> None:
    """Chosen origins, keys, e-mails and avatars of one's own leave nothing to warn of."""
    variables = {
        "MESSAGING_SIGNING_KEYS": "k1:" + "0f" * 32,
        "MESSAGING_CORS_ORIGINS": "https://app.example",
        "MESSAGING_EMAIL_VISIBILITY": "shared_chat",
        "MESSAGING_AVATAR_HOSTS": "own",
    }
    async with process(tmp_path, "--no-docs", variables=variables) as server:
        await server.stop()
    assert "Warning" not in server.output
    assert "Docs" not in server.output
    assert "0f" * 32 not in server.output + server.log


async def test_logs_can_be_read_by_people_too(tmp_path: Path) -> None:
    """`--log-format console` writes lines for people; without a terminal the default is JSON."""
    async with process(tmp_path, "--log-format", "console") as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        async with alice.socket():
            pass
        await server.stop()
    assert "WebSocket connected: user_id=1" in server.log
    assert not server.log.startswith("{")


async def test_the_loopback_of_ipv6(tmp_path: Path) -> None:
    """`--bind [::1]:0` serves IPv6 and prints an address that can be opened."""
    async with process(tmp_path, "--bind", "[::1]:0") as server, browser(server) as http:
        assert server.address.startswith("http://[::1]:")
        alice = await register(server, http, "Alice")
        expect(await alice.ask("GET", "/users/me"), 200)


@pytest.mark.parametrize("database", ["sqlite:///messaging.db", "memory:"])
async def test_several_workers_need_a_database_that_they_can_share(tmp_path: Path, database: str) -> None:
    """What to use instead is said, and nothing has been made."""
    line = await ends_with_one_line(tmp_path, MISTAKEN, "--workers", "2", "--database", database)
    assert "--workers (MESSAGING_WORKERS)" in line
    assert "postgresql://" in line
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - an empty directory


async def test_a_busy_port_is_the_same_for_several_workers(tmp_path: Path) -> None:
    """Said once, before any of them is started."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        options = ("--bind", address, "--workers", "2", "--database", "postgresql://localhost/none")
        line = await ends_with_one_line(tmp_path, MAY_PASS, *options)
    assert f"--bind (MESSAGING_BIND): cannot listen on {address}" in line
    assert "in use" in line
