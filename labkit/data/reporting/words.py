"""What a report says, in English and Chinese: names of steps, reasons and kinds of findings, and the sentences of the page."""

import functools
import importlib
import pkgutil
import re
from typing import Any

from labkit.data.privacy.finding import TITLES
from labkit.errors import LabError

Text = dict[str, str]
Report = dict[str, Any]


def both(en: str, zh: str) -> Text:
    """A text in the two languages."""
    return {"en": en, "zh": zh}


HEADS = {
    "flow": both("Where every row went", "每一行的去向"),
    "steps": both("Steps", "步骤"),
    "samples": both("Before and after", "前后对照"),
    "lengths": both("Lengths", "长度"),
    "labels": both("Labels and numbers", "标签与数值"),
    "languages": both("Languages and splits", "语言与划分"),
    "sources": both("Sources and licences", "来源与许可"),
    "duplicates": both("Duplicates", "重复"),
    "privacy": both("Personal data", "个人信息"),
    "cost": both("Tokens and the cost of training", "词元与训练成本"),
    "rejects": both("Rows that could not be read", "无法读取的行"),
    "plan": both("Plan and versions", "计划与版本"),
}
SPLITS = {"train": both("train", "训练"), "validation": both("validation", "验证"), "test": both("test", "测试"),
          "": both("none", "未划分")}
LANGUAGES = {"en": both("English", "英文"), "zh": both("Chinese", "中文")}
_COUNTS = {
    "changed": both("texts changed", "改动文本"), "texts": both("texts concerned", "涉及文本"), "flagged": both("flagged", "已标记"),
    "labels": both("labels mended", "修正标签"), "fields": both("empty fields left out", "略去空字段"),
    "conflicting_labels": both("conflicting labels", "标签冲突"), "not_compared": both("not compared", "未比较"),
    "grouped": both("in groups", "成组划分"), "kept": both("kept their split", "保留原划分"),
    "train": both("to train", "划入训练"), "validation": both("to validation", "划入验证"), "test": both("to test", "划入测试"),
    **{name: both(f"now {title['en']}", f"改为{title['zh']}") for name, title in LANGUAGES.items()}}
_REASONS = {
    "exact_duplicate": both("exact duplicate", "完全重复"), "near_duplicate": both("near duplicate", "近似重复"),
    "semantic_duplicate": both("says the same", "语义重复"), "leak": both("stands in the test split too", "泄漏到测试集")}
DUPLICATE_STEPS = ("exact_duplicates", "near_duplicates", "semantic_duplicates", "leaks")


def step(name: str) -> Text:
    """A step's title; the last check, which is no step of the plan, has one too."""
    from labkit.data import ledger, steps

    if name in ledger.TITLES:
        return ledger.TITLES[name]
    try:
        return steps.get(name).title
    except LabError:  # a step of somebody's own that is not loaded where an old preparation is looked at
        return plain(name)


def reason(name: str) -> Text:
    """Why records are dropped, by its code: each room of steps has a table of them."""
    return _reasons().get(name) or plain(name)


@functools.cache
def _reasons() -> dict[str, Text]:
    from labkit.data import steps

    found = dict(_REASONS)
    for room in pkgutil.iter_modules(steps.__path__):
        found |= getattr(importlib.import_module(f"{steps.__name__}.{room.name}"), "REASONS", {})
    return found


def kind(name: str) -> Text:
    """A kind of personal data, by its code."""
    return TITLES.get(name) or plain(name)


def count(name: str) -> Text:
    """What a step counted."""
    return _COUNTS.get(name) or kind(name)


def split(name: str) -> Text:
    """A split, also the empty one."""
    return SPLITS.get(name) or plain(name)


def language(name: str) -> Text:
    """A language of records."""
    return LANGUAGES.get(name) or plain(name)


def plain(name: str) -> Text:
    """A code as a person reads it where it has no title: without underscores."""
    title = name.replace("_", " ")
    return both(title, title)


_QUOTED = re.compile(r"(column '[^']*')|(['\"]).*\2", re.DOTALL)


def problem(said: str) -> str:
    """A rejected row's problem without what stood in the row (in quotes), which may be somebody's; names of columns stay."""
    return _QUOTED.sub(lambda match: match.group(1) or "…", said)[:300]


def kind_of_problem(said: str) -> str:
    """The same without what is special to the row, so that equal problems count together."""
    return re.sub(r"\d[\d,.]*", "…", problem(said))


def sentence(report: Report, language: str) -> str:
    """What happened, in a sentence: how many rows became records, and where the others went."""
    rows, reasons = report["rows"], report["reasons"]
    gone: dict[str, int] = {}
    for each in report["steps"]:
        for name, number in each["dropped"].items():
            gone[name] = gone.get(name, 0) + number
    ordered = sorted(gone.items(), key=lambda entry: (-entry[1], entry[0]))
    parts = [(reasons[name][language], number) for name, number in ordered[:4]]
    rest = sum(number for _, number in ordered[4:])
    if language == "zh":
        said = [f"{number:,} 条因“{title}”被丢弃" for title, number in parts]
        said += [f"{rest:,} 条因其他原因被丢弃"] if rest else []
        said += [f"{rows['rejected']:,} 行无法读取"] if rows["rejected"] else []
        return f"读入 {rows['read']:,} 行，得到 {rows['kept']:,} 条记录；{'；'.join(said) or '没有丢弃任何一行'}。"
    said = [f"{number:,} {'was' if number == 1 else 'were'} dropped as “{title}”" for title, number in parts]
    said += [f"{rest:,} for other reasons"] if rest else []
    said += [f"{rows['rejected']:,} could not be read"] if rows["rejected"] else []
    return f"Of {rows['read']:,} rows {rows['kept']:,} became records; {', '.join(said) or 'none was dropped'}."


def sampled(tokens: Report) -> Text:
    """Of how many records the tokens were counted."""
    if tokens["sampled"] == tokens["records"]:
        return both(f"Counted in all {tokens['records']:,} records with the tokenizer of {tokens['base']}.",
                    f"用 {tokens['base']} 的分词器统计了全部 {tokens['records']:,} 条记录。")
    return both(f"Counted in a random {tokens['sampled']:,} of {tokens['records']:,} records with the tokenizer of {tokens['base']}.",
                f"用 {tokens['base']} 的分词器统计，从 {tokens['records']:,} 条记录中随机抽取 {tokens['sampled']:,} 条。")


def cost(tokens: Report, cost: Report) -> dict[str, list[str]]:
    """What training on the records costs, with the formula: paragraphs by language."""
    records, mean, total, currency = tokens["train_records"], tokens["train_mean"], cost["train_tokens"], cost["currency"]
    is_sample = tokens["sampled"] < tokens["records"]
    money = f"{cost['gpu_cost']:.2f}" if cost["gpu_cost"] >= 0.01 else "< 0.01"

    def sum_of(rate: float, minutes: float, language: str) -> str:
        return f"{total:,} × {cost['epochs']} ÷ {rate:,.0f} = {duration(minutes)[language]}"

    here = {language: sum_of(cost["tokens_per_second"], cost["minutes"], language) for language in LANGUAGES}
    rented = {language: sum_of(cost["gpu_tokens_per_second"], cost["gpu_minutes"], language) for language in LANGUAGES}
    price = f"{cost['gpu_price']:g} {currency}"
    return {
        "en": [
            f"{records:,} training records × {mean:,.1f} tokens on average{' (of the sample)' if is_sample else ''} = {total:,} tokens: "
            f"system prompt, conversation and answer, with the tokenizer of {tokens['base']}.",
            f"On this machine, tokens × epochs ÷ tokens a second: {here['en']}. The speed is that of the sample scenarios' trainings "
            "on 2 processor cores (SmolLM2-135M, LoRA on 8 layers); another machine, base or recipe has another one.",
            f"On a rented GPU: {rented['en']}; at {price} an hour that is {money} {currency}. The speed is that of one such training "
            "among 16 side by side on an H200; the price is an assumption, and the start of the machine is not in it."],
        "zh": [
            f"{records:,} 条训练记录 × 平均 {mean:,.1f} 个词元{'（抽样）' if is_sample else ''} = {total:,} 个词元："
            f"含系统提示、对话和回答，用 {tokens['base']} 的分词器统计。",
            f"本机，词元数 × 轮数 ÷ 每秒词元数：{here['zh']}。速度取自示例场景在 2 个处理器核上的训练"
            "（SmolLM2-135M，LoRA 8 层）；换机器、基座或配方，速度不同。",
            f"租用 GPU：{rented['zh']}；按每小时 {price} 计，为 {money} {currency}。"
            "速度取自 H200 上 16 个并行训练中的一个；价格为假设，不含机器启动时间。"],
    }


def duration(minutes: float) -> Text:
    """Seconds, minutes or hours, whichever reads best."""
    if minutes < 1:
        return both(f"{minutes * 60:,.1f} s", f"{minutes * 60:,.1f} 秒")
    if minutes < 90:
        return both(f"{minutes:,.1f} min", f"{minutes:,.1f} 分钟")
    return both(f"{minutes / 60:,.1f} h", f"{minutes / 60:,.1f} 小时")
