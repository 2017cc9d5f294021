"""Who may log in to the server: accounts with random passwords, made through the server's own API."""

import json
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from labkit.errors import LabError

WORKSPACE = "lab"
_SECONDS = 60


@dataclass(frozen=True)
class Account:
    """Somebody who can log in, by name and password on the page, by `api_key` in a program. `role` is owner, admin or annotator; the
    password is known only when it was made just now."""

    username: str
    role: str
    api_key: str = field(repr=False)
    password: str = field(default="", repr=False)


def new_password() -> str:
    """16 random letters and digits in groups of four, without those that look alike: 79 bits, and bearable to type."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


def new_key() -> str:
    """A random API key of 256 bits."""
    return secrets.token_urlsafe(32)


def everybody(url: str, key: str) -> list[Account]:
    """All accounts of the server, without passwords."""
    return [_account(user) for user in call(url, key, "GET", "users")["items"]]


def add(url: str, key: str, username: str, role: str = "annotator") -> Account:
    """Make an account, a member of the lab's workspace; the password in it is shown nowhere else.

    Raises:
        LabError: the name is taken, the server does not answer, or the key is not an owner's.
    """
    password = new_password()
    user = call(url, key, "POST", "users", {"first_name": username, "username": username, "role": role, "password": password})
    workspaces = {each["name"]: each["id"] for each in call(url, key, "GET", "me/workspaces")["items"]}
    place = workspaces.get(WORKSPACE) or call(url, key, "POST", "workspaces", {"name": WORKSPACE})["id"]
    call(url, key, "POST", f"workspaces/{place}/users", {"user_id": user["id"]})
    return _account(user, password)


def renew(url: str, key: str, username: str) -> Account:
    """Give an account a new password."""
    user = next((user for user in call(url, key, "GET", "users")["items"] if user["username"] == username), None)
    if user is None:
        raise LabError(f"no account {username} at {url}")
    password = new_password()
    return _account(call(url, key, "PATCH", f"users/{user['id']}", {"password": password}), password)


def remove(url: str, key: str, username: str) -> None:
    """Remove an account and all its answers."""
    user = next((user for user in call(url, key, "GET", "users")["items"] if user["username"] == username), None)
    if user is None:
        raise LabError(f"no account {username} at {url}")
    call(url, key, "DELETE", f"users/{user['id']}")


def _account(user: dict[str, Any], password: str = "") -> Account:
    return Account(user["username"], user["role"], user["api_key"], password)


def call(url: str, key: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """One request to the server's API; returns the answer's JSON.

    Raises:
        LabError: no answer, or one that says no; the line names the address and the reason.
    """
    request = urllib.request.Request(f"{url}/api/v1/{quote(path, safe='/?=&')}", method=method,
                                     data=None if body is None else json.dumps(body).encode(),
                                     headers={"X-Argilla-Api-Key": key, "Content-Type": "application/json"})
    here = url.startswith(("http://127.0.0.1:", "http://localhost:"))  # a proxy for the web is no way to a server of this machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if here else None))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            content = answer.read()
            return json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        raise LabError(f"Argilla at {url}, {method} {path}: {_reason(error)}") from None
    except (OSError, ValueError) as error:
        raise LabError(f"Argilla at {url} does not answer ({getattr(error, 'reason', error)}); start it with: labkit label up") from None


def _reason(error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return "the API key is not known there"
    text = error.read().decode(errors="replace")
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = text[:200] or error.reason
    return f"{error.code} {detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)}"
