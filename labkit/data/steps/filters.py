"""Steps that drop records by their texts: empty, too short or long, mostly symbols, repetitive, cut off, or meant to steer a model.

A step says why it drops with a short code; `REASONS` has their titles. Each room of steps has such a table of its own.
"""

import re
from typing import Any

from labkit.data.steps import Outcome, filter_step, record_step, texts
from labkit.errors import LabError
from labkit.records import Record
from labkit.scenarios import Scenario

REASONS = {
    "empty": {"en": "no text", "zh": "没有文字"},
    "too_short": {"en": "too short", "zh": "过短"},
    "too_long": {"en": "too long", "zh": "过长"},
    "symbols": {"en": "mostly symbols", "zh": "符号过多"},
    "repetition": {"en": "repeats itself", "zh": "内容重复"},
    "truncated_answer": {"en": "answer ends in the middle", "zh": "回答中途截断"},
    "prompt_injection": {"en": "tries to steer the model", "zh": "含提示注入"},
}


@record_step("Drop empty texts", "去除空文本")
def empty(record: Record, scenario: Scenario) -> Outcome:
    """Drop a record whose last message has no text; a text field of the answer without text is left out, so that the field counts as
    unlabelled."""
    if not record["messages"] or not record["messages"][-1]["content"].strip():
        return Outcome(record, {}, "empty")
    answer = record["answer"]
    blank = [field.name for field in scenario.fields
             if field.kind == "text" and isinstance(answer.get(field.name), str) and not answer[field.name].strip()]
    if not blank:
        return Outcome(record)
    return Outcome({**record, "answer": {name: value for name, value in answer.items() if name not in blank}}, {"fields": len(blank)})


@filter_step("Drop texts that are too short or too long", "去除过短或过长的文本")
def length(record: Record, scenario: Scenario, *, min_characters: int = 3, max_characters: int = 20_000) -> str:
    """Drop a record whose last message has fewer than `min_characters` letters and digits (a Chinese character counts twice, being
    about a word), or whose messages have more than `max_characters` together."""
    content = record["messages"][-1]["content"] if record["messages"] else ""
    if len(content) < 4 * min_characters:
        weights = (2 if "\u3400" <= each <= "\u9fff" else each.isalnum() for each in content)
        if sum(weights) < min_characters:
            return "too_short"
    total = sum(len(message["content"]) for message in record["messages"])
    return "too_long" if total > max_characters else ""


_SYMBOL = re.compile(r"[^\w\s]|_")


@filter_step("Drop texts that are mostly symbols", "去除符号过多的文本")
def symbol_ratio(record: Record, scenario: Scenario, *, max_share: float = 0.5) -> str:
    """Drop a record where more than `max_share` of the characters in its messages, spaces apart, are neither letters nor digits."""
    for message in record["messages"]:
        content = message["content"]
        symbols = len(_SYMBOL.findall(content))
        if symbols > max_share * len(content) or (symbols * 2 > max_share * len(content) and
                                                  symbols > max_share * sum(map(len, content.split()))):
            return "symbols"
    return ""


@filter_step("Drop texts that repeat themselves", "去除自我重复的文本")
def repetition(record: Record, scenario: Scenario, *, max_ngram_share: float = 0.5, max_character_share: float = 0.4, words: int = 3,
               min_units: int = 12) -> str:
    """Drop a record with a message of at least `min_units` words (characters in Chinese) where more than `max_ngram_share` of the
    runs of `words` words stood there before, or where one character makes more than `max_character_share`."""
    if words < 1:
        raise LabError(f"step repetition: words must be at least 1, not {words}")
    for message in record["messages"]:
        content = message["content"]
        if len(content) < min_units:
            continue
        units: list[str] | str = content.split()
        if _one_character(content, max_character_share * (len(content) - len(units) + 1)):
            return "repetition"
        if len(content) > 12 * len(units):  # no spaces between the words: Chinese
            units = content
        distinct = len(set(units))
        runs = len(units) - words + 1
        # There are at least as many different runs as different units less the first ones.
        if len(units) < min_units or runs - (distinct - words + 1) <= max_ngram_share * runs:
            continue
        if runs - len(set(zip(*(units[start:] for start in range(words)), strict=False))) > max_ngram_share * runs:
            return "repetition"
    return ""


def _one_character(text: str, most: float) -> bool:
    """Whether one character but the space stands there more than `most` times. The frequent ones are counted first: often what is left
    is too little then."""
    left = len(text) - text.count(" ")
    for character in (*_FREQUENT, *set(text).difference(_FREQUENT, " ")):
        if left <= most:
            return False
        count = text.count(character)
        if count > most:
            return True
        left -= count
    return False


_FREQUENT = "etaoinsr"
_DANGLING_END = re.compile(
    r"(?:[,;:(\[{<\u3001\uff0c\uff1b\uff1a\uff08\u300a\u3010\u201c\u2018/&+=-]|(?<!\.)\.{2,3}|(?<!\u2026)\u2026|\.\.\.\s?\"?)$")
_DANGLING_WORD = re.compile(
    r"\b(?:the|a|an|and|or|but|nor|of|to|with|because|that|which|whose|if|when|while|although|since|from|into|by|your|our|their|its|my|is|"
    r"are|was|were|will|would|should|can|could|must|has|have|had|as|than|e\.g\.|i\.e\.)$", re.IGNORECASE)
_DANGLING_CHINESE = re.compile(
    "(?:因为|由于|但是?|并且|而且|以及|或者?|如果|虽然|所以|因此|和|与|并|且|把|被|将|向|于|从|您的|你的|我们的|他们的|"
    "尚未|不仅|包括|例如|比如)$")
_CUT_MARK = re.compile(
    r"(?:\[(?:truncated|cut|more|\.\.\.|\u2026)\]|\((?:more|continued|cont\.?)\)|read more|show more|"
    r"展开全文|查看更多|阅读全文|未完待续)\W*$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s+[A-Z0-9])|[\u3002\uff01\uff1f](?=.)")
_FINISHED = ".!?\u3002\uff01\uff1f\u2026\"'\u201d\u2019)\uff09\u300b\u300d]~\uff5e"
_BRACKETS = (("(", ")"), ("\uff08", "\uff09"), ("\u300a", "\u300b"), ("\u201c", "\u201d"), ("[", "]"))


@filter_step("Drop answers that end in the middle", "去除中途截断的回答")
def truncated_answers(record: Record, scenario: Scenario, *, min_characters: int = 60) -> str:
    """Drop a record with a text field that breaks off: at a comma, an open bracket, a word that calls for another, a mark of a cut, or,
    from `min_characters` on, without the full stop that its other sentences have."""
    for field in scenario.fields:
        value = record["answer"].get(field.name) if field.kind == "text" else None
        if isinstance(value, str) and _breaks_off(value.rstrip(), min_characters):
            return "truncated_answer"
    return ""


def _breaks_off(text: str, min_characters: int) -> bool:
    if not text or text[-1] in ".!?\u3002\uff01\uff1f" and not text.endswith(".."):
        return False
    end = text[-40:]
    if _DANGLING_END.search(end) or _DANGLING_WORD.search(end) or _DANGLING_CHINESE.search(end) or _CUT_MARK.search(end):
        return True
    tail = text[-400:]
    if any(tail.rfind(opening) > tail.rfind(closing) for opening, closing in _BRACKETS if opening in tail):
        return True
    return len(text) >= min_characters and text[-1] not in _FINISHED and text[-1].isalpha() and len(_SENTENCE_END.findall(text)) >= 2


# Whose instructions matters: `disregard my previous instructions` is a customer's, 忘记密码，系统提示错误 a complaint.
_STEERING = tuple(re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in (
    r"\b(?:ignore|disregard|forget|override|bypass)\W+(?:(?!my\b|our\b|his\b|her\b|their\b)\w+\W+){0,4}?"
    r"(?:previous|prior|above|earlier|preceding|all|any|your|system)\W+(?:(?!my\b|our\b)\w+\W+){0,3}?"
    r"(?:instructions?|prompts?|guidelines|directives|system message|programming)\b",
    r"\b(?:reveal|print|show|repeat|output|leak|display|tell|give|what (?:is|are))\W+(?:\w+\W+){0,3}?"
    r"(?:(?:system|hidden|initial|original|secret)\W+prompt|your\W+(?:system|hidden|initial|original|secret)\W+(?:instructions?|message))\b",
    r"\byou are now (?:in )?(?:dan\b|a?n? ?(?:unrestricted|unfiltered|uncensored|jailbroken)|developer mode|god mode|an? ai without)",
    r"\b(?:do anything now|jailbreak(?:ed)? (?:mode|prompt)|"
    r"pretend (?:that )?you (?:have|are bound by) no (?:rules|restrictions|guidelines|filters))\b",
    r"<\|(?:im_start|im_end|im_sep|endoftext|system|user|assistant|eot_id|start_header_id|end_header_id|begin_of_text|end_of_text|end|pad)"
    r"\|>",
    r"\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\uff5c(?:User|Assistant|begin\u2581of\u2581sentence)\uff5c>",
    r"^\s*#{2,}\s*(?:instruction|response|system|assistant)s?\s*:\s*$",
    r"^\s*[\[(*]{0,2}(?:system|assistant|developer)[\])*]{0,2}\s*[:\uff1a]\s*(?:you (?:are|must|will|should|now)|ignore|disregard|"
    r"from now on|act as|your (?:new|task|role)|do not follow|always|never|new (?:rules?|instructions?|role))\b",
    r"^\s*(?:system|系统)\s*[:\uff1a]\s*(?:你(?:现在|是|必须|将|要)|从现在(?:开始|起)|忽略|无视|请?忘记)",
    r"(?:忽略|无视|忘记|忘掉|不要理会|不用理会|不必遵守|不再遵守|绕过|抛开|丢弃|覆盖)[^,\uff0c。\uff01\uff1f\n]{0,10}?"
    r"(?:之前|以上|上面|上述|前面|先前|此前|所有|全部|一切|你的|原有|系统)[^,\uff0c。\uff01\uff1f\n]{0,8}?"
    r"(?:指令|指示|提示词|规则|设定|命令|系统消息|约束)(?![的了好过])",
    r"(?:输出|显示|泄露|泄漏|告诉我|打印|复述|重复|展示|透露|给我)[^,\uff0c。\uff01\uff1f\n]{0,8}?"
    r"(?:你的?(?:系统|初始|隐藏|原始|内部)的?(?:提示|指令|设定)|(?:系统|初始|隐藏|原始|内部)的?(?:提示词|prompt))",
    r"你现在(?:是|进入|处于)[^。\n]{0,8}?(?:DAN|越狱|不受(?:任何)?(?:限制|约束)|没有(?:任何)?(?:限制|约束)|开发者模式)",
    r"(?:假装|假设|扮演)[^。\n]{0,10}?(?:没有|不受)(?:任何)?(?:限制|约束|规则)[^。\n]{0,6}?(?:AI|人工智能|助手|模型)",
))
_STEERING_CUES = ("ignore", "disregard", "forget", "override", "bypass", "prompt", "instruction", "you are now", "anything now", "jailbr",
                  "pretend", "<|", "[inst", "[/inst", "<<", "_of_turn", "##", "system", "assistant", "developer")
_CHINESE_CUES = ("系统", "忽略", "无视", "忘记", "忘掉", "理会", "遵守", "绕过", "抛开", "丢弃", "覆盖", "提示", "指令", "设定", "你现在",
                 "假装", "假设", "扮演", "\uff5c")


@record_step("Find prompt injection", "检查提示注入")
def prompt_injection(record: Record, scenario: Scenario, *, action: str = "drop") -> Outcome:
    """Find texts that try to steer a model ("ignore all previous instructions", 忽略以上所有指令) or hold the marks of chat templates
    (`<|im_start|>`). With action "drop" the record is dropped, with "flag" its `meta.flags` names it."""
    if action not in ("drop", "flag"):
        raise LabError(f"step prompt_injection: action must be drop or flag, not {action!r}")
    found = sum(map(steers, texts(record, scenario)))
    if not found:
        return Outcome(record)
    if action == "drop":
        return Outcome(record, {"texts": found}, "prompt_injection")
    return Outcome({**record, "meta": flagged(record["meta"], "prompt_injection")}, {"texts": found})


def steers(text: str) -> bool:
    """Whether a text tries to steer a model."""
    lowered = text.lower()
    cues = _STEERING_CUES if text.isascii() else _STEERING_CUES + _CHINESE_CUES
    return any(cue in lowered for cue in cues) and any(pattern.search(text) for pattern in _STEERING)


def flagged(meta: dict[str, Any], flag: str) -> dict[str, Any]:
    """`meta` with one more flag in its list `flags`."""
    flags = meta.get("flags") or []
    return meta if flag in flags else {**meta, "flags": [*flags, flag]}
