"""The step that takes personal data out of records."""

import json

import pytest

from labkit import records
from labkit.data import steps
from labkit.data.privacy import masking, protection
from labkit.errors import LabError


def record(small_scenario, language, text, note):
    return records.make("small", language, [{"role": "user", "content": text}], {"kind": "apple", "note": note}, source="t",
                        license="CC0-1.0")


def run(row, scenario, **parameters):
    step = steps.get("protect")
    return step.run(row, scenario, **step.parameters({"names": False, **parameters}))


def test_messages_and_text_fields_are_masked_and_counted(small_scenario):
    row = record(small_scenario, "en", "mail a@example.com or call (415) 555-2671", "wrote to A@EXAMPLE.COM")
    done = run(row, small_scenario)
    assert done.record["messages"][0]["content"] == "mail [EMAIL] or call [PHONE]" and done.record["answer"]["note"] == "wrote to [EMAIL]"
    assert done.counts == {"email": 2, "phone": 1} == done.record["meta"]["privacy"]
    assert row["messages"][0]["content"] == "mail a@example.com or call (415) 555-2671" and not done.drop


def test_chinese_records_get_chinese_placeholders(small_scenario):
    done = run(record(small_scenario, "zh", "手机13812345678，住青岛市市南区香港中路10号", "无"), small_scenario)
    assert done.record["messages"][0]["content"] == "手机[手机号]，住[地址]"


def test_a_record_without_personal_data_is_the_same_object(small_scenario):
    row = record(small_scenario, "en", "a red apple", "sweet")
    done = run(row, small_scenario)
    assert done.record is row and done.counts == {}


def test_flag_only_counts_and_keeps_no_text(small_scenario):
    row = record(small_scenario, "en", "mail a@example.com", "none")
    done = run(row, small_scenario, mode="flag")
    assert done.record["messages"] == row["messages"] and done.record["meta"] == {"privacy": {"email": 1}}
    assert "a@example" not in json.dumps(done.record["meta"])


def test_a_second_run_finds_nothing_more_and_keeps_the_counts(small_scenario):
    once = run(record(small_scenario, "en", "mail a@example.com, card 4111111111111111, DOB 03/12/1985", "x"), small_scenario)
    twice = run(once.record, small_scenario)
    assert twice.counts == {} and twice.record["meta"]["privacy"] == once.counts


def test_only_the_chosen_kinds_are_masked(small_scenario):
    done = run(record(small_scenario, "en", "a@example.com from 203.0.113.42", "x"), small_scenario, kinds="ip")
    assert done.record["messages"][0]["content"] == "a@example.com from [IP]"


def test_pseudonyms_are_the_same_in_message_and_answer_and_another_in_the_next_record(small_scenario, monkeypatch):
    monkeypatch.setenv(masking.KEY_VARIABLE, "a secret that is long enough")
    one, other = (run(record(small_scenario, "en", f"mail a@example.com {number}", "re A@example.com"), small_scenario,
                      mode="pseudonymise").record
                  for number in ("one", "two"))
    first = one["messages"][0]["content"].split()[1]
    assert one["answer"]["note"] == f"re {first}" and first != "a@example.com" and first not in other["messages"][0]["content"]


def test_pseudonyms_need_a_key_and_modes_and_kinds_must_exist(small_scenario, monkeypatch):
    monkeypatch.delenv(masking.KEY_VARIABLE, raising=False)
    row = record(small_scenario, "en", "mail a@example.com", "x")
    with pytest.raises(LabError, match="LABKIT_PRIVACY_KEY"):
        run(row, small_scenario, mode="pseudonymise")
    with pytest.raises(LabError, match="no mode 'hide'; there are: mask"):
        run(row, small_scenario, mode="hide")
    with pytest.raises(LabError, match="no kind of personal data 'mail'"):
        run(row, small_scenario, kinds="mail")


def test_the_replacements_lead_back_to_the_text(small_scenario):
    row = record(small_scenario, "en", "mail a@example.com from 203.0.113.42", "a@example.com")
    done = protection.protect(row, small_scenario, "number", frozenset(("email", "ip")))
    assert done.replacements == [("email", "a@example.com", "[EMAIL 1]"), ("ip", "203.0.113.42", "[IP 1]")]
    text = done.record["messages"][0]["content"]
    for _, old, new in done.replacements:
        text = text.replace(new, old)
    assert text == row["messages"][0]["content"]
