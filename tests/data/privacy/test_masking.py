"""What stands in the place of a finding."""

import datetime
import ipaddress
import re

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.us import ssn

from labkit.data import privacy
from labkit.data.privacy import masking
from labkit.data.privacy.finding import Finding
from labkit.errors import LabError

KEY = "a key that is long enough"


def fake(kind, value, language="en", scope=""):
    return masking.Pseudonyms(KEY, language, scope).replacement(kind, value)


def somebodys(number, region=None):
    """Whether libphonenumber takes it for a number that somebody can have."""
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def test_a_placeholder_is_in_the_texts_language():
    text = "mail a@example.com now"
    assert masking.mask(text, [Finding("email", 5, 18, 1.0)]) == "mail [EMAIL] now"
    assert masking.mask("邮箱a@example.com收", [Finding("email", 2, 15, 1.0)], "zh") == "邮箱[邮箱]收"


@pytest.mark.parametrize("kind", privacy.KINDS)
def test_every_kind_has_a_title_and_a_placeholder_in_both_languages(kind):
    for language in ("en", "zh"):
        assert privacy.TITLES[kind][language] and re.fullmatch(r"\[[^\[\]]+\]", privacy.PLACEHOLDERS[kind][language])
        assert privacy.find(privacy.PLACEHOLDERS[kind][language], language, privacy.ALL - {"name"}) == []


def test_numbered_placeholders_tell_two_values_apart_however_they_are_spelt():
    numbered = masking.Numbered()
    values = ["a@example.com", "b@example.com", "A@EXAMPLE.COM", "a (at) example (dot) com"]
    assert [numbered.replacement("email", value) for value in values] == ["[EMAIL 1]", "[EMAIL 2]", "[EMAIL 1]", "[EMAIL 1]"]
    assert numbered.replacement("chinese_mobile", "+86 138 1234 5678") == numbered.replacement("chinese_mobile", "13812345678")


@pytest.mark.parametrize(("kind", "one", "other"), [
    ("bank_card", "4111 1111 1111 1111", "4111-1111-1111-1111"), ("chinese_mobile", "13812345678", "138 1234 5678"), ("uk_nhs",
                                                                                                                      "9434765919",
                                                                                                                      "943 476 5919"),
])
def test_the_same_value_spaced_otherwise_gets_the_same_digits(kind, one, other):
    pseudonyms = masking.Pseudonyms(KEY)
    first, second = pseudonyms.replacement(kind, one), pseudonyms.replacement(kind, other)
    assert re.sub(r"\D", "", first) == re.sub(r"\D", "", second)
    assert re.sub(r"\d", "#", first) == re.sub(r"\d", "#", one) and re.sub(r"\d", "#", second) == re.sub(r"\d", "#", other)


def test_a_key_and_a_record_change_what_is_invented():
    value = "4111111111111111"
    assert fake("bank_card", value) == fake("bank_card", value)
    others = {fake("bank_card", value), fake("bank_card", value, scope="other record"),
              masking.Pseudonyms("another key, long enough").replacement("bank_card", value)}
    assert len(others) == 3


def test_a_short_key_is_refused(monkeypatch):
    with pytest.raises(LabError, match="has 3 characters; use at least 16"):
        masking.Pseudonyms("abc")
    monkeypatch.delenv(masking.KEY_VARIABLE, raising=False)
    with pytest.raises(LabError, match="set LABKIT_PRIVACY_KEY"):
        masking.key_from_environment()


@settings(max_examples=50, deadline=None)
@given(st.text("0123456789", min_size=16, max_size=16))
def test_an_invented_number_belongs_to_nobody(digits):
    assert not luhn.is_valid(fake("bank_card", digits))
    assert not ssn.is_valid(fake("us_ssn", f"{digits[:3]}-{digits[3:5]}-{digits[5:9]}"))
    assert not ric.is_valid(fake("chinese_resident_id", digits + "12"))
    assert not iban.is_valid(fake("iban", "DE" + digits + "1234"))
    assert fake("uk_nhs", digits[:10]).startswith("999")
    mobile = fake("chinese_mobile", "13" + digits[:9])
    assert len(mobile) == 11 and not somebodys(mobile, "CN")
    landline = fake("phone", f"010-6{digits[:7]}", "zh")
    assert landline.startswith("010-0")  # subscribers' numbers begin with 2 to 9; libphonenumber is not that strict
    assert re.fullmatch(r"\([2-9]\d\d\) 555-01\d\d", fake("phone", f"(415) 2{digits[:2]}-{digits[2:6]}"))
    assert re.fullmatch(r"\+1 [2-9]\d\d 555 01\d\d", fake("phone", f"+1 415 2{digits[:2]} {digits[2:6]}"))
    assert fake("phone", f"07{digits[:9]}").startswith("07700900") and fake("phone",
                                                                            f"020 7{digits[:3]} {digits[3:7]}").startswith("016 3296 0")
    spain = fake("phone", f"+34 612 {digits[:2]} {digits[2:4]} {digits[4:6]}")
    assert spain.startswith("+34 ") and not somebodys(spain)


def test_an_invented_address_of_a_machine_is_one_for_documentation():
    free = [ipaddress.ip_network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
    for value in ("8.8.8.8", "2a00:1450:4001::1"):
        assert any(ipaddress.ip_address(fake("ip", value)) in net for net in free if net.version == ipaddress.ip_address(value).version)
    assert fake("email", "maria@bank.com").endswith("@example.com")
    assert fake("url_with_token", "https://bank.com/?token=abc").startswith("https://example.com/")


@pytest.mark.parametrize(("written", "form"), [
    ("03/12/1985", "%d/%m/%Y"), ("1985-03-12", "%Y-%m-%d"), ("12 March 1985", "%d %B %Y"), ("Mar 12, 1985", "%b %d, %Y"),
    ("1985年3月12日", "%Y年%m月%d日"), ("19850312", "%Y%m%d"),
])
def test_an_invented_date_is_a_date_in_the_same_form(written, form):
    for number in range(30):
        invented = fake("date_of_birth", written, scope=str(number))
        assert abs(datetime.datetime.strptime(invented, form).year - 1985) <= 3


def test_a_person_stays_one_person_through_a_record():
    pseudonyms = masking.Pseudonyms(KEY)
    full = pseudonyms.replacement("name", "Maria Lopez")
    given_name, family = full.split(" ")
    assert pseudonyms.replacement("name", "maria lopez") == full.lower() and pseudonyms.replacement("name", "MARIA LOPEZ") == full.upper()
    assert pseudonyms.replacement("name", "Maria") == given_name and pseudonyms.replacement("name", "Ms. Lopez") == f"Ms. {family}"
    assert pseudonyms.replacement("name", "Lopez, Maria") == f"{family}, {given_name}"
    assert pseudonyms.replacement("name", "Maria's") == f"{given_name}'s"
    assert pseudonyms.replacement("name", "M. Lopez") == f"{given_name[0]}. {family}"
    assert "Maria" not in full and "Lopez" not in full


def test_a_chinese_person_stays_one_person_through_a_record():
    pseudonyms = masking.Pseudonyms(KEY, "zh")
    full = pseudonyms.replacement("name", "王海燕")
    assert len(full) == 3 and pseudonyms.replacement("name", "海燕") == full[1:]
    assert pseudonyms.replacement("name", "王女士") == full[0] + "女士"
    assert pseudonyms.replacement("name", "小王") == "小" + full[0]
    assert len(pseudonyms.replacement("name", "欧阳娜")) == 2 and "·" in pseudonyms.replacement("name", "约翰·史密斯")


def test_different_people_get_different_names():
    pseudonyms = masking.Pseudonyms(KEY)
    families = [f"Family{chr(97 + number)}" for number in range(20)]
    assert len({pseudonyms.replacement("name", f"Mr {family}") for family in families}) == 20


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(privacy.KINDS), st.text(min_size=1, max_size=25), st.sampled_from(["en", "zh"]))
def test_anything_can_be_replaced(kind, written, language):
    assert isinstance(fake(kind, written, language), str)
