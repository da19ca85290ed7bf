"""Basic authentication for the UI: user names and password hashes from the environment, checked on every request.

OVERAGE_UI_USERS
    `name:hash` per user, separated by commas; `overage ui --new-user NAME` makes one from a password. Without it,
    everybody who can reach the address may do everything.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response

from billing.model.errors import RefusedError
from billing.model.text import counted

# scrypt parameters: 16 MB and a twentieth of a second per guess.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_HASH: Final = re.compile(r"scrypt\.(\d{1,8})\.(\d{1,3})\.(\d{1,3})\.([0-9a-f]{16,128})\.([0-9a-f]{64})")
_NAME: Final = re.compile(r"[^\s:,]{1,100}")
_MOST_CACHED: Final = 1_000


def new_user(name: str, password: str) -> str:
    """A name with its password hash, in the format of OVERAGE_UI_USERS.

    Raises
    ------
    RefusedError
        When the name holds blanks, a colon or a comma, or the password is shorter than 8 characters.
    """
    if not _NAME.fullmatch(name):
        raise RefusedError(f"--new-user: found {name!r}, expected a name without blanks, colons and commas")
    if len(password) < 8:
        raise RefusedError(f"the password has {counted(len(password), 'character')}, expected 8 or more")
    salt = secrets.token_bytes(16)
    digest = _digest(password, salt, _COST, _BLOCK, _PARALLEL)
    return f"{name}:scrypt.{_COST}.{_BLOCK}.{_PARALLEL}.{salt.hex()}.{digest.hex()}"


def read_users(text: str) -> dict[str, str]:
    """Parse OVERAGE_UI_USERS to password hashes by user.

    Raises
    ------
    RefusedError
        Names the position of an invalid entry, never its content: it may be a password.
    """
    users = {}
    for place, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        name, _, hashed = entry.partition(":")
        if not _NAME.fullmatch(name) or not _HASH.fullmatch(hashed) or name in users:
            raise RefusedError(
                f"OVERAGE_UI_USERS: entry {place} is no user: expected NAME:HASH, each name once, as "
                "`overage ui --new-user NAME` makes it"
            )
        users[name] = hashed
    return users


class Login(AuthenticationBackend):
    """HTTP Basic authentication, for pages and web sockets."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        # Cache verified headers by a fast hash: a page sends many requests.
        self._verified: dict[bytes, str] = {}
        self._nobody = new_user("nobody", secrets.token_hex(8)).partition(":")[2]

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        """Authenticate a request by its header `Authorization`."""
        header = conn.headers.get("authorization", "")
        key = hashlib.sha256(header.encode()).digest()
        name = self._verified.get(key) or await run_in_threadpool(self._verify, header)
        if name is None:
            raise AuthenticationError("a user name and a password are needed")
        if len(self._verified) < _MOST_CACHED:
            self._verified[key] = name
        return AuthCredentials(["authenticated"]), SimpleUser(name)

    def _verify(self, header: str) -> str | None:
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        # Verify a dummy hash for unknown names, so that they take as long as known ones.
        is_right = _matches(password, self._users.get(name, self._nobody))
        return name if is_right and name in self._users else None


def ask_to_log_in(_: HTTPConnection, error: AuthenticationError) -> Response:
    """Answer 401, so that the browser asks for name and password."""
    return PlainTextResponse(f"{error}\n", 401, {"WWW-Authenticate": 'Basic realm="Overage", charset="UTF-8"'})


def _matches(password: str, hashed: str) -> bool:
    found = _HASH.fullmatch(hashed)
    if found is None:
        return False
    cost, block, parallel = (int(found[place]) for place in (1, 2, 3))
    return hmac.compare_digest(_digest(password, bytes.fromhex(found[4]), cost, block, parallel).hex(), found[5])


def _digest(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=256 * cost * block + 2**20, dklen=32
    )
