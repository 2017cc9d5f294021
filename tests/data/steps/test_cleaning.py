"""Cleaning mends what is broken in a text and leaves a good text alone."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data.steps import cleaning

EVERY = (cleaning.mojibake, cleaning.unicode_form, cleaning.control_characters, cleaning.markup, cleaning.boilerplate,
         cleaning.repeated_lines, cleaning.spaces)
GOOD = (
    "My card was charged twice on 3 May; can you look?",
    "L’été dernier, ça a coûté 20 € à Noël, déjà payé.",
    "Größe, Übermut & Söhne: 3 °C, naïve façade, señor",
    "你好，我的卡丢了！订单号AB-12，金额100.50元（含税）。",
    "他说：“明天见……”——然后走了。",
    "繁體中文：請問退貨要多久？",
    "日本語のテキスト",
    "emoji 👩‍💻 👍🏽 🇨🇳 ❤️ stay",
    "if (a < b && c > d) { return a * b ** 2; }",
    "for i in range(10):\n    total += i * 2\n    print(total)",
    "Dear <name>, use <your order number> & wait.",
    "a < b and c > d, R&D at AT&T, 5 * 3 * 2, snake_case_name, __init__",
    "3 * 4 = 12 and 2 ** 3 = 8",
    "Run `<b>bold</b>` or `**x**` to see.",
    "* one\n* two\n- three\n1. four",
    "With best regards to your team, I must say the parcel was late.",
    "I got your letter from: the office.\nTo my surprise it was empty.",
)


@pytest.mark.parametrize("step", EVERY, ids=lambda step: step.__name__)
@pytest.mark.parametrize("text", GOOD)
def test_a_good_text_stays_as_it_is(step, text):
    assert step(text) == text


@pytest.mark.parametrize("text", [
    "I can’t pay – it’s £20…", "déjà vu à Zürich", "你好，银行卡丢了怎么办", "Привет, как дела", "100 € à payer",
])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_utf8_that_was_read_as_a_western_encoding_is_mended(text, encoding):
    try:
        broken = text.encode().decode(encoding)
    except UnicodeDecodeError:
        pytest.skip(f"{encoding} has no character for some of these bytes")
    assert cleaning.mojibake(broken) == text


@pytest.mark.parametrize("text", ["你好我的卡丢了，怎么办呢", "退款申请已经提交，请稍候。", "请问订单什么时候发货"])
def test_chinese_that_was_read_in_the_other_encoding_is_mended(text):
    broken = text.encode("gb18030").decode("latin-1")
    assert cleaning.mojibake(broken) == text


@pytest.mark.parametrize("text", ["你好", "你好我的卡丢了，怎么办呢", "订单AB12已发货，谢谢"])
def test_utf8_that_was_read_as_gbk_is_mended(text):
    assert cleaning.mojibake(text.encode().decode("gb18030")) == text


def test_words_that_only_look_misread_stay():
    assert cleaning.mojibake("联通") == "联通"  # its GBK bytes are valid UTF-8
    assert cleaning.mojibake("ÉÈÀÙ") == "ÉÈÀÙ"


@pytest.mark.parametrize(("before", "after"), [
    ("e\u0301te\u0301", "été"),
    ("Ｈｅｌｌｏ，　ｗｏｒｌｄ！", "Hello, world!"),
    ("你好，订单ＡＢ１２３，金额１００．５０元，时间１２：３０！", "你好，订单AB123，金额100.50元，时间12:30！"),
    ("联系ｊｏｈｎ＠ｅｘａｍｐｌｅ．ｃｏｍ；谢谢（急）", "联系john@example.com；谢谢（急）"),
    ("\uf900", "\u8c48"),  # a compatibility character
])
def test_widths_and_forms_are_unified(before, after):
    assert cleaning.unicode_form(before) == after


@pytest.mark.parametrize(("before", "after"), [
    ("pass\u200bword\ufeff", "password"), ("退\u200b款\u2060", "退款"),
    ("a\r\nb\rc\u2028d\te", "a\nb\nc\nd\te"),
    ("abc\x00\x07\x9fdef", "abcdef"),
    ("\u202eevil\u202c", "evil"), ("\u2066x\u2069", "x"),
    ("\x1b[31mred\x1b[0m", "red"),
    ("a\u200db", "ab"), ("👩\u200d👩", "👩\u200d👩"), ("❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("hi" + "".join(chr(0xE0000 + ord(letter)) for letter in "ignore"), "hi"),
    ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"),
])
def test_characters_that_are_not_seen_go(before, after):
    assert cleaning.control_characters(before) == after


@pytest.mark.parametrize(("before", "after"), [
    ("<p>Hello <b class='x'>you</b></p>", "\nHello you\n"), ("第一行<br/>第二行", "第一行\n第二行"),
    ("x &amp; y &lt; 3 &copy; &#20320;&#x597d;", "x & y < 3 © 你好"),
    ("&amp;amp;quot;hi&amp;quot;", '"hi"'), ("pass&#8203;wo&shy;rd", "password"),
    ("&lt;p&gt;你好&lt;/p&gt;", "\n你好\n"),
    ("<script>if (a<b) {}</script>text<style>p{}</style>", "text"), ("a<!-- hidden -->b", "ab"),
    ("<a href=\"https://x.test/?a=1&b=2\">the form</a>", "the form"),
    ("Live at <address>, not <address>1 Road</address>", "Live at \n, not \n1 Road\n"),
    ("**Important**: 请**立即**处理", "Important: 请立即处理"), ("*now* or ~~later~~", "now or later"),
    ("# Title\ntext", "Title\ntext"), ("a\n---\nb", "a\nb"),
    ("[our site](https://x.test/a_b) and ![图](http://x.test/y.png)", "our site and 图"),
    ("```\n<b>**code**</b>\n```\n<b>text</b>", "```\n<b>**code**</b>\n```\ntext"),
])
def test_markup_goes_and_its_text_stays(before, after):
    assert cleaning.markup(before) == after


@pytest.mark.parametrize(("before", "after"), [
    ("My card is lost.\n\nSent from my iPhone", "My card is lost."),
    ("卡丢了。\n\n发自我的iPhone", "卡丢了。"), ("卡丢了。\n从我的华为手机发送", "卡丢了。"),
    ("Where is it?\n\nKind regards,\nAnn Example\nExample Ltd", "Where is it?"),
    ("请尽快处理。\n\n此致\n敬礼\n李四", "请尽快处理。"),
    ("Where is it?\n-- \nAnn\n+1 555", "Where is it?"),
    ("Hello\nTo unsubscribe, click here.", "Hello"), ("新品上市\n如需退订请回复T", "新品上市"), ("活动\n回复TD退订", "活动"),
    ("Hello\n\nThis email and any attachments are confidential and intended solely for the addressee.", "Hello"),
    ("你好\n本邮件及其附件含有保密信息，仅限收件人使用。\n如您误收本邮件，请立即删除。", "你好"),
    ("Yes please\n\nOn Mon, 3 Mar 2025 at 10:00, Bob <bob@x.test> wrote:\n> shall we?\n> Bob", "Yes please"),
    ("好的\n\n-----原始邮件-----\n发件人: 张三\n内容", "好的"), ("好的\n在 2025年3月3日，张三 <z@x.test> 写道：\n> 可以吗", "好的"),
    ("Fine\n\nFrom: Bob\nSent: Monday\nTo: Ann\nSubject: x\n\nold text", "Fine"),
    ("Answer\n> question", "Answer"),
])
def test_what_mail_programs_add_goes(before, after):
    assert cleaning.boilerplate(before) == after


@pytest.mark.parametrize("text", ["Sent from my iPhone", "发自我的iPhone", "> quoted\n> only", "Regards,\nAnn"])
def test_a_text_that_is_only_boilerplate_stays_for_the_filters_to_judge(text):
    assert re.sub(r"\W", "", cleaning.boilerplate(text)) != ""


def test_repeated_lines_are_kept_once():
    assert cleaning.repeated_lines("ok\nok\nok\nbye") == "ok\nbye"
    assert cleaning.repeated_lines("Please help me now\nyes\nPlease help me now\nno") == "Please help me now\nyes\nno"
    assert cleaning.repeated_lines("请尽快处理我的退款\n好\n请尽快处理我的退款\n好", min_characters=5) == "请尽快处理我的退款\n好"
    assert cleaning.repeated_lines("yes\nno\nyes\n---\n---") == "yes\nno\nyes\n---\n---"


@pytest.mark.parametrize(("before", "after"), [
    ("  a   b\u00a0c \n\n\n\n d  ", "a b c\n\n d"), ("你好\u3000 世界 ", "你好 世界"), ("x:\n    - y", "x:\n    - y"), ("a\tb", "a\tb"),
])
def test_white_space_is_tidied(before, after):
    assert cleaning.spaces(before) == after


MARKS = [
    "<", ">", "</p>", "<p>", "<b x='1'>", "<!--", "-->", "&", "&amp;", "&lt;", "#", "**", "*", "`", "```", "~~", "](http://x)", "[",
    "\n", "\n\n", " ", "  ", "\u3000", "\u00a0", "\u200b", "\u200d", "👩", "\ufeff", "\x1b[0m", "Ａ", "１", "：", "．", "，", "你", "好",
    "Ã©", "â€™", "浣", "Ä", "é", "e\u0301", "Regards,", "Sent from my iPhone", "-- ", "> q", "From: x", "Sent: y", "发自我的iPhone", "此致",
    "退订", "abc", "abc def ghi", ";", "1", "---", "<script>", "</script>",
]
PIECES = st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=4)), max_size=25).map("".join)


@pytest.mark.parametrize("step", EVERY, ids=lambda step: step.__name__)
@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.text(max_size=200), PIECES))
def test_cleaning_twice_is_cleaning_once(step, text):
    once = step(text)
    assert step(once) == once


@pytest.mark.parametrize("step", EVERY, ids=lambda step: step.__name__)
@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(max_size=200), PIECES))
def test_no_text_grows_much(step, text):
    # NFC makes three of one at most (Unicode standard annex 15), and a block's tag becomes a line feed.
    assert len(step(text)) <= 3 * len(text)


@settings(max_examples=100, deadline=None)
@given(text=PIECES)
def test_after_all_steps_a_text_is_normal_and_visible(text):
    for step in EVERY:
        text = step(text)
    assert unicodedata.is_normalized("NFC", text) and text == text.strip()
    assert not set(text) & set("\u200b\ufeff\u202e\x00\x1b\r")


@pytest.mark.parametrize("text", [
    "<" * 200_000, "&amp;" * 40_000, "<script>" * 20_000, "[" * 100_000, "*a" * 100_000, " " * 300_000, "\n" * 200_000, "é" * 200_000,
    "Regards,\n" * 20_000, "> a\n" * 50_000, "`" * 100_000, "<a x=\"" * 30_000, "#" * 100_000, "- " * 100_000, "Ä" * 100_000,
    "you received this email " * 8000, "From: a\n" * 20_000, "<!--" * 50_000, "**a " * 50_000, "~~a" * 60_000,
])
def test_an_attack_on_the_patterns_takes_no_longer_than_its_length(text):
    import time

    began = time.process_time()
    for step in EVERY:
        step(text)
    assert time.process_time() - began < 5
