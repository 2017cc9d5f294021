"""The script stands first in every page, and only there; the policy lets nothing in from elsewhere."""

import asyncio

import pytest

from apps.shell import Shell


def get(path, parts=(b"<html><head><meta></head>", b"</html>"), kind=b"text/html"):
    async def app(scope, receive, send):
        length = str(sum(map(len, parts))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), (b"content-length", length)]})
        for number, part in enumerate(parts):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts) - 1})

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Shell(app)({"type": "http", "path": path}, None, send))
    return dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("path", ["/", "/compare", "/compare/"])
def test_pages_get_the_script_and_the_policy(path):
    headers, body = get(path)
    assert body.startswith(b"<html><head><script>") and body.endswith(b"</html>")
    assert headers[b"content-length"] == str(len(body)).encode()
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy and "connect-src 'self'" in policy and "http" not in policy


@pytest.mark.parametrize("path", ["/config", "/gradio_api/queue/data", "/assets/index.js"])
def test_all_else_passes_as_it_is(path):
    headers, body = get(path)
    assert b"script" not in body and b"content-security-policy" not in headers
