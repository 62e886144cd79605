"""The signing secret: created once, private, and refused if damaged."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.security import load_or_make_keyring
from adapters.security.keyring import parse_keyring

SECRET = "ab" * 32


def test_a_secret_is_created_once(tmp_path: Path) -> None:
    """The second start reads the secret of the first one, so a restart logs nobody out."""
    path = tmp_path / "keys"
    assert load_or_make_keyring(path).secrets == load_or_make_keyring(path).secrets


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """The file has mode 0600 from its creation, and no temporary file remains."""
    path = tmp_path / "keys"
    load_or_make_keyring(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    """Processes that start together all sign with the key of the one that created the file."""
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(load_or_make_keyring, [tmp_path / "keys"] * 8))
    assert all(ring.secrets == rings[0].secrets for ring in rings)


def test_the_first_key_signs() -> None:
    """Keys are read in order, from NAME:HEX separated by white space."""
    ring = parse_keyring(f"new:{SECRET}\nold:{SECRET}", source="the test")
    assert ring.signing_kid == "new"
    assert set(ring.secrets) == {"new", "old"}


@pytest.mark.parametrize("text", ["", "  \n", "nothing", f":{SECRET}", "short:abcd", "nothex:" + "zz" * 32])
def test_a_damaged_file_is_refused(text: str) -> None:
    """Invalid keys are an error that names their source, never a weak secret."""
    with pytest.raises(ValueError, match="the test"):
        parse_keyring(text, source="the test")


def test_secrets_are_not_shown() -> None:
    """A keyring in a log or a traceback shows no key."""
    assert SECRET not in repr(parse_keyring(f"a:{SECRET}", source="the test"))
