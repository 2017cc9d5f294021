"""A line to an Argilla server, one's own or a team's, by its URL and an API key.

It speaks the HTTP API (version 1) itself: the `argilla` client takes 1.5 s to import, and drops the times of the responses and the order
in which a dataset was half made. What goes wrong is a `LabError` of one line.
This module knows nothing about scenarios and records.
"""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError

if TYPE_CHECKING:
    import httpx

_SECONDS = 120  # a batch of 500 records with long vectors takes 10 on two cores
_MAJOR = "2"  # of the server's versions: the first number is the API's


class Refused(LabError):
    """The server understood and said no: `status` is HTTP's, `detail` its own words."""

    def __init__(self, message: str, status: int, detail: str) -> None:
        super().__init__(message)
        self.status, self.detail = status, detail


@dataclass(frozen=True)
class Connection:
    """An open line: where to, and as whom (`role` is owner, admin or annotator)."""

    url: str
    user: str
    role: str
    version: str
    _client: "httpx.Client" = field(repr=False, compare=False)

    def get(self, path: str, **parameters: Any) -> Any:
        return _ask(self._client, self.url, "GET", path, params=parameters)

    def post(self, path: str, body: Any, **parameters: Any) -> Any:
        return _ask(self._client, self.url, "POST", path, params=parameters, json=body)

    def put(self, path: str, body: Any = None) -> Any:
        return _ask(self._client, self.url, "PUT", path, json=body)

    def delete(self, path: str, **parameters: Any) -> Any:
        return _ask(self._client, self.url, "DELETE", path, params=parameters)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def connect(url: str | None = None, key: str | None = None) -> Connection:
    """Open a line and see who one is there.

    Args:
        url: the server's address, such as `http://127.0.0.1:6900`; by default `ARGILLA_API_URL`, else this machine's own server.
        key: an API key; by default `ARGILLA_API_KEY`, else the owner's of this machine's own server.

    Raises:
        LabError: nothing answers there, it is not Argilla or another version of it, or the key is not accepted.
    """
    import httpx

    url, key = url or os.environ.get("ARGILLA_API_URL"), key or os.environ.get("ARGILLA_API_KEY")
    if not url or not key:
        url, key = _own(url, key)
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise LabError(f"{url!r} is not the address of a server; it begins with http:// or https://")
    if not key.isascii() or not key.isprintable():
        raise LabError("the API key has characters that no key has; copy it from the server's page \"My settings\"")
    here = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
    client = httpx.Client(base_url=url, headers={"X-Argilla-Api-Key": key}, timeout=_SECONDS, trust_env=not here)
    try:
        version = _ask(client, url, "GET", "version")
        if not isinstance(version, dict) or "version" not in version:
            raise LabError(f"{url} answers, but not as an Argilla server does; is the address right?")
        if str(version["version"]).split(".")[0] != _MAJOR:
            raise LabError(f"{url} is Argilla {version['version']}; the lab speaks with {_MAJOR}.x (2.8.0 is tested)")
        me = _ask(client, url, "GET", "me")
    except BaseException:
        client.close()
        raise
    return Connection(url, me["username"], me["role"], str(version["version"]), client)


def _own(url: str | None, key: str | None) -> tuple[str, str]:
    """URL and key, with what is missing taken from this machine's own server."""
    from labkit.labeling import server

    own = server.running()
    if url and (own is None or url.rstrip("/") != own.url):
        raise LabError(f"{url} wants an API key: set ARGILLA_API_KEY, or give it along",
                       f"{url} 需要 API 密钥：请设置 ARGILLA_API_KEY 或直接给出")
    own_url, own_key = server.connection()  # says what to do where none runs
    return own_url, key or own_key


def _ask(client: "httpx.Client", url: str, method: str, path: str, **content: Any) -> Any:
    """The answer's JSON, None where it has no content."""
    import httpx

    try:
        response = client.request(method, f"/api/v1/{path}", **content)
    except httpx.TimeoutException:
        raise LabError(f"the Argilla server at {url} did not answer within {_SECONDS} s; look at its log and try again") from None
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise LabError(f"no Argilla server answers at {url} ({_line(str(error))}); start it (labkit label up) or check the address",
                       f"{url} 没有 Argilla 服务器响应；请先启动（labkit label up）或检查地址") from None
    if response.is_success:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise LabError(f"{url} answers, but not as an Argilla server does; is the address right?") from None
    if response.is_redirect:  # not followed: the key would go along, wherever that is
        raise LabError(f"{url} sends on to {_line(response.headers['location'])}; give the address that it ends at")
    status, detail = response.status_code, _detail(response)
    if status == 401:
        raise Refused(f"the Argilla server at {url} does not accept this API key; copy it again from the page \"My settings\"", 401, detail)
    if status == 403:
        raise Refused(f"this API key may not do that at {url}; use the key of an owner, or of an admin of the workspace", 403, detail)
    if status >= 500:
        raise Refused(f"the Argilla server at {url} failed (HTTP {status}); look at its log", status, detail)
    raise Refused(f"the Argilla server at {url} refused {method} {path}: {detail}", status, detail)


def _detail(response: "httpx.Response") -> str:
    """What the server says is wrong, as one line of at most 300 characters."""
    try:
        said = response.json()
    except ValueError:
        said = response.text
    detail = said.get("detail", said) if isinstance(said, dict) else said
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        detail = "; ".join(f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg', '')}" for each in detail[:3])
    return _line(str(detail))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
