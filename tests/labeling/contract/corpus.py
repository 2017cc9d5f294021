"""The records of the contract suite, made in plain Python from a seed, so that every expected result can be worked out from them."""

import math
import random
from dataclasses import dataclass
from typing import Any

USERS = ("owner", "anna", "bo", "cleo")
TOPICS = ("card", "loan", "账户", "web form", 'the "app"')
CODES = ("7", "007", "7.0", "1e3", "1000", "7-b")
KINDS = ("refund", "card", "迟到", "other")
TAGS = ("urgent", "angry", "重复", "vip")
AGENTS = (None, "model-a", "model-b")
ENGLISH = ("refund", "refunds", "Refunded", "REFUND", "card", "cards", "my", "lost", "parcel", "late", "order", "and", "not", "or", "near",
           "café", "cafe", "naïve", "order_42", "42", "state-of-the-art", "don't", "iPhone", "3.5", "A-1042", "text", "lost card",
           "card lost", "my card lost", "lost the card", "card (lost)", "refund, please", "late parcel", "late refund")
CHINESE = ("退款", "退", "款式", "一下", "信用卡", "银行卡", "卡", "丢了", "我的", "订单", "迟到了", "手机", "iPhone手机", "没有", "42号",
           "，", "！", "退一下款", "款要退", "手机的退款", "我的新订单", "我的卡")
NOTES = ("paid", "late", "refund", "call back", "回电", "退款", "vip")
SAYINGS = ("where is it", "it is here", "my card", "lost again", "订单呢", "在路上", "谢谢")


@dataclass
class Item:
    """A record as it goes up: `responses[user]` is (status, values), `suggestions[question]` is (value, score, agent, type)."""

    id: str
    fields: dict[str, Any]
    metadata: dict[str, Any]
    suggestions: dict[str, tuple[Any, Any, str | None, str | None]]
    responses: dict[str, tuple[str, dict[str, Any]]]
    vectors: dict[str, list[float]]
    server_id: str = ""
    inserted_at: str = ""
    updated_at: str = ""

    @property
    def status(self) -> str:
        """Completed once two people have submitted."""
        return "completed" if sum(status == "submitted" for status, _ in self.responses.values()) >= 2 else "pending"


def make(count: int = 240, seed: int = 7) -> list[Item]:
    """`count` records, every second one Chinese. Of every kind of thing some records have none."""
    draw = random.Random(seed)
    return [_item(draw, number) for number in range(count)]


def _item(draw: random.Random, number: int) -> Item:
    if number % 2:
        text = "".join(draw.choices(CHINESE, k=draw.randint(3, 8)))
    else:
        text = " ".join(draw.choices(ENGLISH, k=draw.randint(4, 9))) + draw.choice((".", "!", "", " (ok)", " 😀"))
    fields: dict[str, Any] = {"text": text}
    if draw.random() < 0.6:
        fields["note"] = draw.choice(NOTES)
    if draw.random() < 0.5:
        fields["chat"] = [{"role": draw.choice(("user", "assistant")), "content": draw.choice(SAYINGS)} for _ in range(draw.randint(1, 3))]
    metadata = {name: value for name, value in (
        ("topic", draw.choice(TOPICS)), ("code", draw.choice(CODES)), ("both", draw.sample(("x", "y", "z"), k=draw.randint(1, 2))),
        ("row-count", draw.choice((-3, 0, 1, 2, 10, 2**40, draw.randint(0, 99)))),
        ("weight", draw.choice((-0.5, 0.0, 0.25, 1.5, 1e6, round(draw.uniform(-5, 5), 2)))),
    ) if draw.random() < 0.8}
    suggestions = {}
    if draw.random() < 0.8:
        suggestions["kind"] = (draw.choice(KINDS), _score(draw), draw.choice(AGENTS), draw.choice((None, "model", "human")))
    if draw.random() < 0.7:
        tags = draw.sample(TAGS, k=draw.randint(1, 3))
        suggestions["tags"] = (tags, [draw.randint(0, 20) / 20 for _ in tags] if draw.random() < 0.7 else None, draw.choice(AGENTS), None)
    if draw.random() < 0.7:
        suggestions["quality"] = (draw.randint(1, 5), _score(draw), draw.choice(AGENTS), "model")
    if draw.random() < 0.3:
        suggestions["comment"] = ("fine 好", _score(draw), None, None)
    if draw.random() < 0.3:
        suggestions["order"] = (draw.sample(("a", "b", "c"), k=3), None, "model-a", None)
    if draw.random() < 0.3:
        suggestions["names"] = ([{"start": 0, "end": 2, "label": "person"}], draw.choice((None, [0.5])), "model-b", None)
    responses = {}
    for user in USERS[1:]:
        status = draw.choice((None, None, "submitted", "submitted", "draft", "discarded"))
        if status:
            values: dict[str, Any] = {"kind": draw.choice(KINDS)}
            if draw.random() < 0.6:
                values["tags"] = draw.sample(TAGS, k=draw.randint(1, 2))
            if draw.random() < 0.6:
                values["quality"] = draw.randint(1, 5)
            if draw.random() < 0.3:
                values["comment"] = draw.choice(("good", "不好"))
            responses[user] = (status, values)
    vectors = {name: [round(draw.uniform(-1, 1), 3) for _ in range(length)] for name, length in (("small", 4), ("wide", 8))
               if draw.random() < 0.85}
    return Item(f"r{number:03d}", fields, metadata, suggestions, responses, vectors)


def _score(draw: random.Random) -> float | None:
    return draw.choice((None, 0.0, 0.5, 1.0, draw.randint(0, 100) / 100))


def similarity(one: list[float], other: list[float]) -> float:
    """(1 + cosine) / 2, from 0 (opposite) to 1 (the same direction)."""
    product = sum(left * right for left, right in zip(one, other, strict=True))
    return (1 + product / (math.hypot(*one) * math.hypot(*other))) / 2
