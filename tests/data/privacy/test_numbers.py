"""Numbers of people: found where their check digits are right and their words say so, left where they are something else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data import privacy
from labkit.data.privacy.numbers import card_is_issued

STRUCTURED = privacy.ALL - {"name"}


def found(text, language="en"):
    return [(each.kind, text[each.start:each.end]) for each in privacy.find(text, language, STRUCTURED)]


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("my card 4111 1111 1111 1111 was declined", "bank_card", "4111 1111 1111 1111"),  # the networks' published test numbers
    ("card no 378282246310005.", "bank_card", "378282246310005"),
    ("Card: 5555-5555-5555-4444 exp 09/27", "bank_card", "5555-5555-5555-4444"),
    ("card 4111111111111111 123", "bank_card", "4111111111111111"),
    ("请退到４１１１１１１１１１１１１１１１，谢谢", "bank_card", "４１１１１１１１１１１１１１１１"),
    ("IBAN GB29 NWBK 6016 1331 9268 19 please", "iban", "GB29 NWBK 6016 1331 9268 19"),  # the IBAN registry's examples
    ("pay to de89370400440532013000", "iban", "de89370400440532013000"),
    ("账户FR1420041010050500013M02606收款", "iban", "FR1420041010050500013M02606"),
    ("NHS number 943 476 5919", "uk_nhs", "943 476 5919"),  # the NHS data dictionary's example
    ("SSN 536-90-4399", "us_ssn", "536-90-4399"),
    ("social security number: 401227788", "us_ssn", "401227788"),
    ("身份证11010519491231002X没错", "chinese_resident_id", "11010519491231002X"),  # the example of GB 11643
    ("身份证11010519491231002x没错", "chinese_resident_id", "11010519491231002x"),
    ("老身份证号是110105491231002", "chinese_resident_id", "110105491231002"),
    ("account number is: 00012345678", "bank_account", "00012345678"),
    ("sort code 40-47-84 please", "bank_account", "40-47-84"),
    ("routing number 021000021", "bank_account", "021000021"),
    ("账号：1101 4728 5930 06", "bank_account", "1101 4728 5930 06"),
    ("passport no. C01X00T47", "passport", "C01X00T47"),
    ("护照号E12345678过期", "passport", "E12345678"),
    ("licence MORGA657054SM9IJ was lost", "driving_licence", "MORGA657054SM9IJ"),  # the DVLA's specimen
    ("驾驶证档案编号320500123456", "driving_licence", "320500123456"),
    ("MRN 00458812 admitted", "medical_record", "00458812"),
    ("住院号：ZY2023-0917", "medical_record", "ZY2023-0917"),
])
def test_a_number_is_found_as_it_is_written(text, kind, value):
    assert found(text, "en" if text.isascii() else "zh") == [(kind, value)]


@pytest.mark.parametrize("text", [
    "my card 4111 1111 1111 1112", "order 4111111111111111", "SSN 000-12-3456", "SSN 666-12-3456", "SSN 912-34-5678", "SSN 123-00-4567",
    "SSN 123-45-0000", "NHS number 943 476 5918", "ISBN 978-3-16-148410-0", "routing number 021000022", "IBAN GB28 NWBK 6016 1331 9268 19",
    "timestamp 1700000000123", "the total is 12,345,678.90", "order id 536904399", "my account is locked since 2023", "patient number one",
])
def test_a_look_alike_stays(text):
    assert found(text) == []


@pytest.mark.parametrize("text", [
    "身份证110105194912310021", "身份证号11010519491331002X", "卡尾号4242", "运单号7755441122334", "商品货号6901234567892",
    "账户余额1234567.89元", "账号被锁了",
    "（2023）京0105民初12345号", "序列号8842119022310", "护照过期了", "统一社会信用代码91110108MA01ABCD2X",
])
def test_a_chinese_look_alike_stays(text):
    assert found(text, "zh") == []


def luhn_digit(head: str) -> str:
    """ISO/IEC 7812-1, annex B."""
    doubled = [int(each) * (2 if place % 2 == 0 else 1) for place, each in enumerate(reversed(head))]
    return str(-sum(each // 10 + each % 10 for each in doubled) % 10)


@settings(max_examples=60, deadline=None)
@given(st.text("0123456789", min_size=14, max_size=14), st.integers(1, 9))
def test_of_the_ten_last_digits_only_the_check_digit_makes_a_card(body, shift):
    head = "4" + body
    right = luhn_digit(head)
    wrong = str((int(right) + shift) % 10)
    assert found(f"card {head}{right}") == [("bank_card", head + right)]
    assert ("bank_card", head + wrong) not in found(f"card {head}{wrong}")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_makes_a_resident_id_none(place, shift):
    right = "11010519491231002X"
    wrong = right[:place] + str((int(right[place]) + shift) % 10) + right[place + 1:]
    assert "chinese_resident_id" not in [kind for kind, _ in found(f"身份证{wrong}", "zh")]


@pytest.mark.parametrize(("digits", "issued"), [
    ("4" + "0" * 15, True), ("4" + "0" * 14, False), ("34" + "0" * 13, True), ("2220" + "0" * 12, False), ("2221" + "0" * 12, True),
    ("2720" + "0" * 12, True), ("2721" + "0" * 12, False), ("62" + "0" * 17, True), ("9" * 16, False), ("17" * 8, False),
])
def test_a_card_has_the_beginning_and_length_of_an_issuer(digits, issued):
    assert card_is_issued(digits) is issued
