"""The language of a record: English, Chinese, both, or another, found without a network."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import records, scenarios
from labkit.data import steps
from labkit.data.steps import language
from labkit.errors import LabError

BANKING = Path(__file__).parents[3] / ".." / "shared" / "data" / "banking77_train.csv"


@pytest.mark.parametrize(("text", "found"), [
    ("Where is my card? I have been waiting for two weeks.", "en"), ("card lost pls help", "en"), ("WHERE IS MY MONEY", "en"),
    ("卡丢了怎么办", "zh"), ("請問退貨要多久", "zh"), ("我的iPhone 15 Pro Max屏幕碎了", "zh"), ("退款", "zh"), ("Wi-Fi连不上", "zh"),
    ("Hi, my name is 王伟 and I would like to return the shoes that I bought last week.", "en"),
    ("Bonjour, je voudrais savoir où est ma carte bancaire", "other"),
    ("Wo ist meine Karte geblieben und warum dauert das so lange", "other"),
    ("Mi tarjeta no funciona, ¿qué hago ahora con el pago?", "other"),
    ("Waar is mijn pas, ik wacht al twee weken op een antwoord", "other"),
    ("カードをなくしました", "other"), ("카드를 잃어버렸어요", "other"), ("Где моя карта и почему так долго", "other"),
    ("أين بطاقتي", "other"),
    ("Please check 订单状态 for me right now 谢谢你们的帮助 and call me", "mixed"),
    ("12345 !!!", ""), ("", ""),
])
def test_the_language_of_a_text(text, found):
    assert language.identify(text) == found


@pytest.mark.parametrize("name", sorted(scenarios.names()))
def test_the_labs_own_samples_are_in_the_language_they_say(name):
    scenario = scenarios.load(name)
    for row in records.samples(scenario):
        assert language.language(row, scenario) == steps.Outcome(row), row["messages"]


@pytest.mark.skipif(not BANKING.exists(), reason=f"NO PUBLIC DATA: {BANKING} is absent")
def test_real_english_questions_are_english():
    with BANKING.open(encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][::10]
    assert sum(language.identify(text) == "other" for text in texts) <= len(texts) * 0.001


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_any_text_has_an_answer(text):
    assert language.identify(text) in ("en", "zh", "mixed", "other", "")


def test_the_record_is_set_right_kept_or_dropped(small_scenario):
    def run(text, declared, **parameters):
        row = records.make("small", declared, [{"role": "user", "content": text}], {}, source="t", license="")
        found = language.language(row, small_scenario, **parameters)
        return found.record["language"], found.drop, found.counts

    assert run("卡丢了怎么办", "en") == ("zh", "", {"zh": 1})
    assert run("Where is my card, please?", "zh") == ("en", "", {"en": 1})
    assert run("12345", "zh") == ("zh", "", {})
    assert run("Где моя карта", "en") == ("en", "other_language", {})
    both = "Please check 订单状态 for me right now 谢谢你们的帮助 and call me"
    assert run(both, "zh") == ("en", "", {"en": 1})
    assert run(both, "zh", mixed="drop") == ("zh", "mixed_language", {})
    with pytest.raises(LabError, match="mixed must be keep or drop"):
        run(both, "zh", mixed="split")


def test_only_what_the_user_says_counts(small_scenario):
    messages = [{"role": "user", "content": "你好，我的卡丢了"},
                {"role": "assistant", "content": "What is the number of your card, please?"},
                {"role": "user", "content": "不记得了"}]
    row = records.make("small", "en", messages, {}, source="t", license="")
    assert language.language(row, small_scenario).record["language"] == "zh"
