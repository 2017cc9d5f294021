"""Chat logs, told by the keys of their rows: OpenAI's `messages`, ShareGPT's `conversations`, Alpaca's `instruction` and `output`.

A row that is one gets further columns: `chat` (the messages up to the user's last one), `chat.reply` (what the assistant said to
that) and `chat.system`. The columns it had stay.
"""

import json
from typing import Any

from labkit.errors import LabError

CHAT, REPLY, SYSTEM = "chat", "chat.reply", "chat.system"

_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog")
_ROLES = {"user": "user", "human": "user", "prompter": "user", "customer": "user", "assistant": "assistant", "gpt": "assistant",
          "chatgpt": "assistant", "bot": "assistant", "model": "assistant", "agent": "assistant", "system": "system", "developer": "system",
          "用户": "user", "客户": "user", "助手": "assistant", "客服": "assistant", "系统": "system"}


def unfolded(values: dict[str, Any]) -> dict[str, Any]:
    """The row with the columns of its chat; the same row where it is none.

    Raises:
        LabError: it is a chat, but one that cannot be kept (an unknown role, a picture, no message of the user).
    """
    if CHAT in values:
        return values
    for column in _COLUMNS:
        if column in values and (turns := _turns(values[column])) is not None:
            return {**values, **_columns(turns)}
    if "instruction" in values and "output" in values:
        return {**values, **_columns(_alpaca(values))}
    return values


def messages_of(value: Any) -> dict[str, Any]:
    """The columns `chat`, `chat.reply` and `chat.system` of one chat, given as a list of messages or as its JSON.

    Raises:
        LabError: it is not a chat that can be kept.
    """
    turns = _turns(value)
    if turns is None:
        raise LabError("is not a list of messages with role and content (or from and value)")
    return _columns(turns)


def _turns(value: Any) -> list[tuple[str, str]] | None:
    """(role, content) of each message; None where this is no chat at all."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return None
    keys = next(((role, content) for role, content in (("role", "content"), ("from", "value")) if role in value[0]), None)
    if keys is None:
        return None
    return [_turn(entry, number, *keys) for number, entry in enumerate(value, 1)]


def _turn(entry: Any, number: int, role_key: str, content_key: str) -> tuple[str, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get(role_key), str):
        raise LabError(f"message {number} has no {role_key}")
    role = _ROLES.get(entry[role_key].strip().casefold())
    if role is None:
        raise LabError(f"message {number} is of {entry[role_key][:40]!r}; only user, assistant and system can be kept")
    content = entry.get(content_key)
    if isinstance(content, list):  # OpenAI's parts
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise LabError(f"message {number} holds something other than text")
        content = "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise LabError(f"message {number} has no text")
    return role, content.strip()


def _alpaca(values: dict[str, Any]) -> list[tuple[str, str]]:
    turns = [("system", str(values["system"]))] if values.get("system") else []
    for pair in values.get("history") or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise LabError("history must hold pairs of a question and its answer")
        turns += [("user", str(pair[0])), ("assistant", str(pair[1]))]
    question = [str(values[key]).strip() for key in ("instruction", "input") if values.get(key) is not None]
    turns.append(("user", "\n\n".join(part for part in question if part)))
    if values["output"] is not None and str(values["output"]).strip():
        turns.append(("assistant", str(values["output"]).strip()))
    return turns


def _columns(turns: list[tuple[str, str]]) -> dict[str, Any]:
    system = "\n\n".join(content for role, content in turns if role == "system")
    spoken = [(role, content) for role, content in turns if role != "system"]
    last = max((place for place, (role, _) in enumerate(spoken) if role == "user"), default=None)
    if last is None:
        raise LabError("the chat has no message of the user")
    chat = [{"role": role, "content": content} for role, content in spoken[: last + 1]]
    return {CHAT: chat, REPLY: "\n\n".join(content for _, content in spoken[last + 1 :]), SYSTEM: system}
