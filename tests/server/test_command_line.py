"""`messaging serve`: its settings, its errors, and its output at start."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import attrs
import click
import pytest
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
    """Run the command in this process up to the point where it would serve; there it exits with 99."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "configure_logs", lambda *_: sys.exit(99))
        return CliRunner().invoke(main, ["serve", *arguments], env=variables)


def refuses(result: Result, option: str) -> str:
    """Check that it exited with click's status for wrong usage, and named the setting in both forms."""
    assert result.exit_code == 2, result.output
    flat = " ".join(result.output.split())
    assert f"--{option}" in flat
    assert f"MESSAGING_{option.upper().replace('-', '_')}" in flat
    assert "Traceback" not in flat
    return flat


# --- the settings -------------------------------------------------------------------------------------------


def test_help_shows_every_setting() -> None:
    """Each setting has its option, its variable, its default if it has one, and a line of explanation."""
    result = serve("--help")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    classes: tuple[type[attrs.AttrsInstance], ...] = (Settings, *PARTS.values())
    settings = {attribute.name for class_ in classes for attribute in attrs.fields(class_)}
    settings -= {*PARTS, *UNSETTABLE}
    assert settings <= set(OPTIONS)
    for name in OPTIONS:
        assert f"--{str(name).replace('_', '-')}" in text
        assert f"MESSAGING_{str(name).upper()}" in text
    assert "default: (15m)" in text


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_of_the_program(arguments: list[str]) -> None:
    """Without a command, the program lists its commands."""
    result = CliRunner().invoke(main, arguments)
    assert "serve" in result.output
    assert "Traceback" not in result.output


def test_version() -> None:
    """`messaging --version` prints the distribution's version."""
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
def test_wrong_values_are_refused_with_the_settings_name(option: str, value: str) -> None:
    """On the command line, in the environment and in the file, the error names the setting."""
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
def test_origins_in_the_form_of_browsers(origins: str) -> None:
    """An origin has any scheme, an address in place of a name, and any port but the scheme's default."""
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
def test_the_default_of_avatar_hosts(bind: str, hosts: str | None, expected: AvatarHosts) -> None:
    """By default, a server on loopback shows avatars of any host, and another one of its own host."""
    given = None if hosts is None else Hosts().convert(hosts, None, None)
    settings = Settings(bind=HostPort().convert(bind, None, None), avatar_hosts=given)
    assert settings.privacy.avatar_hosts == expected


def test_the_refusal_of_an_origin_shows_the_form() -> None:
    """The error names the invalid origin among several, and shows the valid form."""
    message = refuses(serve("--cors-origins", "https://a.example b.example"), "cors-origins")
    assert "'b.example' is not an origin" in message
    assert "Write https://app.example, several with spaces between them, or * for any" in message


@pytest.mark.parametrize(
    ("option", "value", "message"),
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
def test_a_refusal_shows_the_bound(option: str, value: str, message: str) -> None:
    """The error shows the bound as a user would write it."""
    assert message in refuses(serve(f"--{option}", value), option)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("10s", 10), ("0.5", 0.5), ("0.5s", 0.5), ("1m30s", 90), ("2m", 120)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    """Durations are accepted with and without units."""
    convert = OPTIONS["drain_time"].type_cast_value
    assert convert(click.Context(program.serve), text) == seconds
    if seconds == int(seconds):
        whole = OPTIONS["database_connect_time"].type_cast_value(click.Context(program.serve), text)
        assert (whole, type(whole)) == (seconds, int)


def test_help_shows_the_unit_of_durations() -> None:
    """The help shows SECONDS in place of click's type."""
    text = serve("--help").output
    assert "FLOAT" not in text
    assert "--drain-time SECONDS" in text
    assert "--database-connect-time SECONDS" in text


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
def test_an_error_in_the_file_names_the_file(tmp_path: Path, name: str, value: str) -> None:
    """The error names the file and the key in it, and no environment variable."""
    file = tmp_path / "messaging.toml"
    file.write_text(f"{name} = {value}")
    result = serve("--config", str(file))
    text = " ".join(result.output.split())
    assert result.exit_code == 2
    assert name in text
    assert str(file) in result.output.replace("\n", "")
    assert f"MESSAGING_{name.upper()}" not in text


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
async def test_errors_at_start_name_the_file_too(tmp_path: Path, name: str, value: str) -> None:
    """An error that only the start detects names the key and the file; its status is 2."""
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
    """A misspelt option is an error."""
    result = serve("--acess-ttl", "20m")
    assert result.exit_code == 2
    assert "--acess-ttl" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_wrong_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """An unknown key, a wrong value and invalid TOML in the file are errors with an explanation."""
    file = tmp_path / "messaging.toml"
    file.write_text(text)
    result = serve("--config", str(file))
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file, a directory, binary data and UTF-16, which is recognised by its mark, are errors."""
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "utf-16").write_text("docs = true", encoding="utf-16")
    assert "byte-order mark of UTF-16 (FF FE)" in serve("--config", str(tmp_path / "utf-16")).output
    for name in ("missing", ".", "binary", "utf-16", "file.toml\r"):
        result = serve("--config", str(tmp_path / name))
        assert result.exit_code == 2
        assert "--config" in result.output


async def test_precedence_of_settings(tmp_path: Path) -> None:
    """The command line overrides the environment, and that overrides the file."""
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
        response = await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token})
        assert expect(response, 200)["expires_in"] == 1800
        chat = await alice.direct_chat_with(bob)
        await alice.send(chat, "1234567")
        body = {"chat_id": chat, "type": "text", "content": "12345678"}
        expect(await alice.ask("POST", "/messages", body), 422)


@pytest.mark.parametrize(
    ("option", "value", "message"),
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
def test_control_characters_are_named(option: str, value: str, message: str) -> None:
    """The error shows the position of a control character and not the value, which may be a secret."""
    variable = f"MESSAGING_{option.upper().replace('-', '_')}"
    result = CliRunner().invoke(main, ["serve"], env={variable: value})
    assert message in refuses(result, option)
    assert value not in result.output


def test_lists_may_have_several_lines() -> None:
    """A line feed separates entries as a space does."""
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


def test_unknown_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is shown with the nearest setting; the project's other variables and Kubernetes' are known."""
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


async def test_an_unknown_variable_causes_a_warning(tmp_path: Path) -> None:
    """The warning is the first line of the log, and is in the greeting once; workers do not repeat it."""
    variables = {"MESSAGING_CORS_ORIGIN": "https://app.example"}
    async with process(tmp_path, variables=variables) as server:
        await server.stop()
    warning = "MESSAGING_CORS_ORIGIN is no setting and has no effect; the nearest is MESSAGING_CORS_ORIGINS."
    assert server.output.count(warning) == 1
    lines = [json.loads(line) for line in server.log.splitlines()]
    (warned,) = [line for line in lines if line["event"] == "unknown_variable"]
    assert (warned["name"], warned["nearest"]) == ("MESSAGING_CORS_ORIGIN", "MESSAGING_CORS_ORIGINS")
    assert lines[0] == warned
