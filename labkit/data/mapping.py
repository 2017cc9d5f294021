"""Which column is what: guessed from names and contents, or said as `text=COLUMN,FIELD=COLUMN`.

A mapping is `{target: column}`. Targets are the scenario's fields, `text` or `messages` (a chat; see `readers.chats`), and what a
record keeps beside them: `language`, `license`, `source`, `time`, `group`, `id`, `split`. A field of such a name comes first.
A column may lie in another one that holds an object: `answer.intent`.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from labkit.data.readers import chats
from labkit.data.rows import Row
from labkit.errors import LabError
from labkit.scenarios import LANGUAGES, Field, Scenario

CONTENT = ("text", "messages")
FURTHER = ("language", "license", "source", "time", "group", "id", "split")

LANGUAGE_NAMES = {"en": "en", "eng": "en", "english": "en", "英文": "en", "英语": "en", "zh": "zh", "zho": "zh", "chi": "zh", "cn": "zh",
                  "chinese": "zh", "mandarin": "zh", "中文": "zh", "汉语": "zh", "简体中文": "zh", "繁体中文": "zh"}
SPLIT_NAMES = {"train": "train", "training": "train", "训练": "train", "训练集": "train", "validation": "validation", "valid": "validation",
               "val": "validation", "dev": "validation", "验证": "validation", "验证集": "validation", "test": "test", "testing": "test",
               "eval": "test", "测试": "test", "测试集": "test"}

_NAMES = {
    "text": "text message question query utterance sentence content prompt input body comment review description complaint facts "
            "文本 消息 问题 提问 咨询 内容 句子 留言 输入 正文 评论 描述 主诉 案情 客户消息 用户消息 用户输入 咨询内容 用户问题 消息内容",
    "language": "language lang locale 语言 语种",
    "license": "license licence 许可 许可证 授权 授权协议",
    "source": "source origin 来源 出处 数据来源",
    "time": "time date timestamp receivedat received datetime created createdat createdtime sentat 时间 日期 时间戳 创建时间 发送时间",
    "group": "group groupid conversation conversationid thread threadid dialogueid sessionid session customer customerid client clientid "
             "user userid patient patientid caseid "
             "会话 会话id 会话编号 客户 客户id 客户编号 用户 用户id 用户编号 患者 患者编号 案件编号 分组",
    "id": "id key uid uuid rowid recordid messageid 编号 序号 标识 记录编号",
    "split": "split subset partition fold 划分 数据划分 集合",
}
_LABEL_NAMES = frozenset("label labels category class target tag type 标签 类别 分类 类型 种类".split())
_REPLY_NAMES = frozenset("reply response answer output completion target assistant 回复 答复 回答 输出 应答".split())
_BARE = re.compile(r"[\s_\-.]+")
_ENOUGH = 0.8  # of a column's values must be what it is taken for


@dataclass(frozen=True)
class Guess:
    """A mapping with the reason for each target (`{"en": …, "zh": …}`), the columns that were left over, and for every column a few
    of its values."""

    mapping: dict[str, str]
    reasons: dict[str, dict[str, str]]
    left_over: list[str]
    examples: dict[str, list[str]]

    def table(self, language: str = "en") -> list[str]:
        """Lines to print: target, column, reason and an example; then what is left over."""
        chinese = language == "zh"
        lines = []
        for target, column in self.mapping.items():
            example = next(iter(self.examples.get(column, ())), "")
            shown = (f"；例如「{example}」" if chinese else f'; such as "{example}"') if example else ""
            lines.append(f"{target} = {column}{'：' if chinese else ': '}{self.reasons[target][language]}{shown}")
        if self.left_over:
            lines.append(("未使用的列：" if chinese else "not used: ") + ("、" if chinese else ", ").join(self.left_over))
        return lines

    def spelled(self) -> str:
        """The mapping as `parse` reads it."""
        parts = [f"{target}={column}" for target, column in self.mapping.items()]
        return ",".join('"' + part.replace('"', '""') + '"' if "," in part or '"' in part else part for part in parts)


def parse(text: str, scenario: Scenario) -> dict[str, str]:
    """`text=COLUMN,FIELD=COLUMN` as {target: column}. A part with a comma in it stands in quotation marks, as in CSV.

    Raises:
        LabError: it is not of this form, or `check` finds something wrong.
    """
    mapping: dict[str, str] = {}
    for part in next(csv.reader([text], skipinitialspace=True), []):
        target, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not target or not column:
            raise LabError(f"--map: {part!r} is not of the form FIELD=COLUMN; example: --map text=message,intent=category",
                           f"--map：{part!r} 不是“字段=列”的形式；例如 --map text=message,intent=category")
        if target in mapping:
            raise LabError(f"--map names {target!r} twice", f"--map 两次写了 {target!r}")
        mapping[target] = column
    return check(mapping, scenario)


def check(mapping: dict[str, str], scenario: Scenario) -> dict[str, str]:
    """The same mapping.

    Raises:
        LabError: it has neither `text` nor `messages`, or both, or a target that the scenario does not have.
    """
    fields = [each.name for each in scenario.fields]
    for target in mapping:
        if target not in (*CONTENT, *FURTHER, *fields):
            raise LabError(f"--map: scenario {scenario.name} has no field {target!r}; there are {', '.join(fields)}, "
                           f"and also {', '.join((*CONTENT, *FURTHER))}",
                           f"--map：场景 {scenario.name} 没有字段 {target!r}；可用 {'、'.join((*fields, *CONTENT, *FURTHER))}")
    if ("text" in mapping) == ("messages" in mapping):
        raise LabError("--map needs either text=COLUMN, the column with the user's message, or messages=COLUMN, one with a chat",
                       "--map 需要 text=列（用户消息所在的列）或 messages=列（对话所在的列），二者选一")
    return mapping


def guess(rows: list[Row], scenario: Scenario) -> Guess:
    """What the columns of these rows are for this scenario: first by the fields' names and titles, then by labels among the values,
    then by usual names in English and Chinese; the text is at last the longest column. A mapping without `text` and `messages` means
    that none could be found."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        if not row.problem:
            for column, value in _flat(row.values):
                columns.setdefault(column, []).append(value)
    found = _Found(columns)
    if chats.CHAT in columns:
        found.take("messages", chats.CHAT, "the row is a chat", "该行是一段对话")
    for field in scenario.fields:
        _by_name(found, field)
    for field in scenario.label_fields:
        _by_labels(found, field)
    _by_usual_name(found, scenario)
    for target in FURTHER:
        if target not in found.mapping:
            _named(found, target)
    if "messages" not in found.mapping and not _named(found, "text"):
        _longest(found)
    order = {name: place for place, name in enumerate((*CONTENT, *(field.name for field in scenario.fields), *FURTHER))}
    mapping = dict(sorted(found.mapping.items(), key=lambda item: order[item[0]]))
    left = [column for column in columns if column not in mapping.values()]
    examples = {column: [_short(value) for value in _filled(values)[:3]] for column, values in columns.items()}
    return Guess(mapping, found.reasons, left, examples)


def value_of(values: dict[str, Any], column: str) -> Any:
    """What a row has in a column, which may lie within another one.

    Raises:
        KeyError: the row has no such column.
    """
    if column in values:
        return values[column]
    outer, dot, inner = column.partition(".")
    if dot and isinstance(values.get(outer), dict):
        return value_of(values[outer], inner)
    raise KeyError(column)


def _flat(values: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for column, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{within}{column}.")
        else:
            yield f"{within}{column}", value


class _Found:
    """What has been guessed so far; a column serves once."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns
        self.mapping: dict[str, str] = {}
        self.reasons: dict[str, dict[str, str]] = {}

    def free(self) -> list[str]:
        inner = {chats.CHAT, chats.REPLY, chats.SYSTEM}  # never what a column of the file is taken for by its name
        return [column for column in self.columns if column not in self.mapping.values() and column not in inner]

    def take(self, target: str, column: str, en: str, zh: str) -> bool:
        self.mapping[target] = column
        self.reasons[target] = {"en": en, "zh": zh}
        return True


def _by_name(found: _Found, field: Field) -> None:
    names = {_bare(name) for name in (field.name, *(field.title[language] for language in LANGUAGES))}
    for column in found.free():
        if names & _names_of(column) and (field.kind != "number" or _share(found.columns[column], _is_number) >= _ENOUGH):
            found.take(field.name, column, "it has the field's name", "列名与字段同名")
            return


def _by_labels(found: _Found, field: Field) -> None:
    if field.name in found.mapping:
        return
    known = field.spellings
    shares = {column: _share(found.columns[column], lambda value: str(value).strip().casefold() in known) for column in found.free()}
    best = max(shares, key=lambda column: shares[column], default=None)
    if best is not None and shares[best] >= _ENOUGH:
        share = f"{shares[best]:.0%}"
        found.take(field.name, best, f"{share} of its values are labels of the field", f"其中 {share} 的值是该字段的标签")


def _by_usual_name(found: _Found, scenario: Scenario) -> None:
    """A column named `label` for the first label field that has none; one named `reply`, or what the assistant said, for the only
    text field."""
    labels = [field for field in scenario.label_fields if field.name not in found.mapping]
    column = next((each for each in found.free() if _bare(each) in _LABEL_NAMES and _is_short(found.columns[each])), None)
    if labels and column:
        found.take(labels[0].name, column, "its name is a usual one for a label", "列名常用于标签")
    texts = [field for field in scenario.fields if field.kind == "text"]
    if len(texts) == 1 and texts[0].name not in found.mapping:
        named = [each for each in found.free() if _bare(each) in _REPLY_NAMES]
        column = next((each for each in named if _share(found.columns[each], _is_text) >= _ENOUGH), None)
        if chats.REPLY in found.columns:
            found.take(texts[0].name, chats.REPLY, "what the assistant says last in the chat", "对话中助手最后的回复")
        elif column:
            found.take(texts[0].name, column, "its name is a usual one for an answer", "列名常用于回复")


def _named(found: _Found, target: str) -> bool:
    """Take the column with the first of the target's usual names; what says only a few things must say those."""
    free = {name: column for column in reversed(found.free()) for name in _names_of(column)}
    known = {"language": language_of, "split": split_of}.get(target)
    for name in _NAMES[target].split():
        column = free.get(name)
        if column is None:
            continue
        values = found.columns[column]
        if known and _share(values, lambda value: known(value) is not None) < _ENOUGH:
            continue
        if target == "text" and _share(values, _is_text) < _ENOUGH:
            continue
        return found.take(target, column, "its name is a usual one", "列名常见")
    return False


def _longest(found: _Found) -> None:
    lengths = {}
    for column in found.free():
        values = _filled(found.columns[column])
        if _bare(column) not in _REPLY_NAMES and _share(values, _is_text) >= _ENOUGH:
            lengths[column] = sum(len(str(value)) for value in values) / len(values)
    if lengths:
        best = max(lengths, key=lambda column: lengths[column])
        mean = f"{lengths[best]:.0f}"
        found.take("text", best, f"it has the longest texts, {mean} characters on average", f"文本最长，平均 {mean} 个字符")


def language_of(value: Any) -> str | None:
    """`en` or `zh` for a language's name or code, such as `zh-CN`; None for others."""
    name = str(value).strip().casefold()
    return LANGUAGE_NAMES.get(name) or LANGUAGE_NAMES.get(re.split(r"[-_]", name)[0])


def split_of(value: Any) -> str | None:
    """`train`, `validation` or `test` for what a split is usually called; None for others."""
    return SPLIT_NAMES.get(str(value).strip().casefold())


def _names_of(column: str) -> set[str]:
    """What a column may be known by: its whole name, or that within the object that holds it."""
    return {_bare(column), _bare(column.rpartition(".")[2])}


def _bare(name: Any) -> str:
    return _BARE.sub("", str(name)).casefold()


def _filled(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None and str(value).strip()]


def _share(values: list[Any], test: Callable[[Any], bool]) -> float:
    filled = _filled(values)
    return sum(map(test, filled)) / len(filled) if filled else 0.0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_short(values: list[Any]) -> bool:
    """Whether a column's values can be labels: short, and the same ones again where there are many."""
    filled = [str(value) for value in _filled(values)]
    return bool(filled) and max(map(len, filled)) <= 80 and (len(filled) < 20 or len(set(filled)) <= len(filled) * 0.7)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"
