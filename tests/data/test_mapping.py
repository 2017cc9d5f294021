"""Which column is what is guessed from names and contents in English and Chinese, or said."""

import pytest

from labkit import scenarios
from labkit.data import mapping
from labkit.data.rows import Row
from labkit.errors import LabError


@pytest.fixture()
def service():
    return scenarios.load("customer_service")


def rows(*values):
    return [Row("rows.csv", number, each) for number, each in enumerate(values, 2)]


def guessed(scenario, *values):
    return mapping.guess(rows(*values), scenario).mapping


def test_columns_are_found_by_the_fields_names_and_titles(service):
    assert guessed(service, {"message": "hi", "Intent": "x", "SENTIMENT": "y", "reply": "z"}) == {
        "text": "message", "intent": "Intent", "sentiment": "SENTIMENT", "reply": "reply"}
    assert guessed(service, {"客户消息": "你好", "意图": "x", "情绪": "y", "回复": "z"}) == {
        "text": "客户消息", "intent": "意图", "sentiment": "情绪", "reply": "回复"}


@pytest.mark.parametrize("labels", [("refund", "billing"), ("退款", "账单"), ("Order Status", "REFUND")])
def test_a_label_column_is_found_by_its_values(service, labels):
    found = mapping.guess(rows(*({"a": "some long text", "b": label} for label in labels)), service)
    assert found.mapping == {"text": "a", "intent": "b"}
    assert found.reasons["intent"] == {"en": "100% of its values are labels of the field", "zh": "其中 100% 的值是该字段的标签"}


def test_a_column_that_is_usually_a_label_is_one_also_with_labels_of_its_own(service):
    assert guessed(service, {"text": "where is my card", "category": "card_arrival"}) == {"text": "text", "intent": "category"}
    assert guessed(service, {"文本": "我的卡呢", "类别": "寄卡"}) == {"text": "文本", "intent": "类别"}


def test_what_a_record_keeps_beside_its_text_is_found_by_usual_names(service):
    assert guessed(service, {"text": "a", "lang": "en-GB", "Created-At": "2024", "customer_id": "7", "id": "1", "split": "dev",
                             "license": "MIT", "source": "shop"}) == {
        "text": "text", "language": "lang", "license": "license", "source": "source", "time": "Created-At", "group": "customer_id",
        "id": "id", "split": "split"}
    assert guessed(service, {"内容": "甲", "语言": "中文", "时间": "2024", "会话编号": "7", "编号": "1", "划分": "训练集"}) == {
        "text": "内容", "language": "语言", "time": "时间", "group": "会话编号", "id": "编号", "split": "划分"}


def test_a_column_called_split_or_language_that_says_something_else_is_left_alone(service):
    assert guessed(service, {"text": "a", "split": "50/50", "language": "rude"}) == {"text": "text"}


def test_without_a_usual_name_the_text_is_the_longest_column(service):
    found = mapping.guess(rows({"a": "x", "b": "the longest of these texts", "c": 123456789012345678901234567890}), service)
    assert found.mapping == {"text": "b"} and found.left_over == ["a", "c"]


def test_a_number_column_must_hold_numbers(small_scenario):
    assert guessed(small_scenario, {"text": "a", "weight": "12.5"}) == {"text": "text", "weight": "weight"}
    assert guessed(small_scenario, {"text": "a", "weight": "heavy"}) == {"text": "text"}


def test_a_chat_is_mapped_as_messages_and_what_the_assistant_said_as_the_only_text_field(service, small_scenario):
    row = {"messages": [], "chat": [{"role": "user", "content": "a"}], "chat.reply": "b", "chat.system": ""}
    assert guessed(service, row) == {"messages": "chat", "reply": "chat.reply"}
    assert guessed(small_scenario, row) == {"messages": "chat", "note": "chat.reply"}
    assert guessed(scenarios.load("medical"), row) == {"messages": "chat"}  # two text fields: nobody can tell which


def test_rows_that_could_not_be_read_say_nothing_about_columns(service):
    found = mapping.guess([Row("x", 1, {"intent": "x"}, "broken"), *rows({"text": "a"})], service)
    assert found.mapping == {"text": "text"}


def test_no_text_is_found_where_there_is_none(service):
    assert mapping.guess(rows({"a": 1, "b": 2.5}), service).mapping == {}


def test_a_guess_is_shown_with_reasons_and_examples(service):
    found = mapping.guess(rows({"message": "where is my   card?", "kind": "refund", "x": 1}), service)
    assert found.table() == ['text = message: its name is a usual one; such as "where is my card?"',
                             'intent = kind: 100% of its values are labels of the field; such as "refund"', "not used: x"]
    assert found.table("zh")[0] == "text = message：列名常见；例如「where is my card?」"
    assert found.table("zh")[2] == "未使用的列：x"


def test_a_guess_can_be_said_again(service):
    found = mapping.guess(rows({"text": "a", "意图": "x"}), service)
    assert mapping.parse(found.spelled(), service) == found.mapping
    odd = mapping.Guess({"text": 'a,"b"', "intent": "c=d"}, {}, [], {})
    assert mapping.parse(odd.spelled(), service) == odd.mapping


def test_a_mapping_is_read(service):
    assert mapping.parse(" text = my message , intent=category,group=客户", service) == {
        "text": "my message", "intent": "category", "group": "客户"}
    assert mapping.parse("messages=conversations", service) == {"messages": "conversations"}


@pytest.mark.parametrize(("text", "says"), [
    ("text", "FIELD=COLUMN"), ("", "either text=COLUMN"), ("intent=a", "either text=COLUMN"), ("text=a,messages=b", "either text=COLUMN"),
    ("text=a,mood=b", "no field 'mood'; there are intent, sentiment, reply"), ("text=a,text=b", "names 'text' twice"),
    ("text=,intent=b", "FIELD=COLUMN")])
def test_a_wrong_mapping_is_explained(service, text, says):
    with pytest.raises(LabError, match=says) as error:
        mapping.parse(text, service)
    assert error.value.zh
