"""The first access key: taken from the operator, or made at the first start and kept.

Always: a key that was made is on disk, readable by its owner only, before anybody
hears of it. Never: shows a secret in an error, or replaces a key file that is there.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import string
from pathlib import Path

import msgspec

from waystation.frontend.auth import AccessKey

FILE_NAME = "root-access-key.json"

_ID_ALPHABET = string.ascii_uppercase + "234567"
_ID_RANDOM_LENGTH = 16
"""After "AKIA", which tools that look for leaked keys know: together AWS's usual twenty."""

_SECRET_ALPHABET = string.ascii_letters + string.digits
_SECRET_LENGTH = 40
"""238 random bits. AWS's are as long; without its "+" and "/", a double click takes the whole."""

# Slashes, commas, equal signs and blanks would break the Authorization header that holds an id.
_ID_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class RootKeyError(Exception):
    """There is no root key that can be used; the text tells an operator what to do."""


class KeyFile(msgspec.Struct):
    """How a key is kept."""

    access_key_id: str
    secret_access_key: str


def load_or_create_root_key(
    data_dir: Path, account: str, given_id: str | None, given_secret: str | None
) -> tuple[AccessKey, bool]:
    """Find the key that a node starts with.

    Args:
        data_dir: exists, and no other process starts on it at the same time.
        account: the twelve digits of the account that the key is for.
        given_id: with `given_secret`, the operator's own choice: the file is then
            neither read nor written. None leaves both to the file.

    Returns:
        The key, and whether it was made just now.

    Raises:
        RootKeyError: half a key is given, or one that cannot be used; or the file is
            open to others, or is not a key file.
        OSError: the file cannot be read or written.
    """
    path = data_dir / FILE_NAME
    if given_id is not None or given_secret is not None:
        if given_id is None or given_secret is None:
            missing = "access key id" if given_id is None else "secret access key"
            raise RootKeyError(f"A root key needs both an id and a secret: the {missing} is missing.")
        return usable(AccessKey(given_id, given_secret, account), "that is given"), False
    try:
        return usable(_load(path, account), f"in {path}"), False
    except FileNotFoundError:
        pass
    key = make_key(account)
    _save(path, key)
    return key, True


def make_key(account: str) -> AccessKey:
    """A key that nobody has."""
    return AccessKey(
        id="AKIA" + _random(_ID_ALPHABET, _ID_RANDOM_LENGTH),
        secret=_random(_SECRET_ALPHABET, _SECRET_LENGTH),
        account=account,
    )


def _load(path: Path, account: str) -> AccessKey:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise RootKeyError(
                f"{path} is open to other users (mode {mode:04o}), so its secret may be known. Run "
                f"`chmod 600 {path}` if it is not, or delete it and the next start makes a new key."
            )
        content = file.read()
    try:
        saved = msgspec.json.decode(content, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RootKeyError(
            f"{path} is not a key file. Restore it, or delete it and the next start makes a new key."
        ) from None
    return AccessKey(saved.access_key_id, saved.secret_access_key, account)


def _save(path: Path, key: AccessKey) -> None:
    temporary = path.with_suffix(".tmp")
    content = msgspec.json.format(msgspec.json.encode(KeyFile(key.id, key.secret)))
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        # One may be left of a start that was cut short, with any mode.
        os.fchmod(file.fileno(), 0o600)
        file.write(content + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    # The name is durable only when its directory is.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def usable(key: AccessKey, which: str) -> AccessKey:
    """The key, if it can sign anything; `which` says whose it is. Raises `RootKeyError`."""
    if not _ID_PATTERN.fullmatch(key.id):
        raise RootKeyError(
            f"The id of the root key {which} must be 1 to 128 letters, digits, '_', '.' or '-'."
        )
    if not key.secret:
        raise RootKeyError(f"The secret of the root key {which} is empty.")
    return key


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
