"""Phones, mails, links, secrets, addresses and dates of birth, in both languages, beside what looks like them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.data import privacy
from labkit.data.privacy.finding import Finding, settle
from labkit.errors import LabError

STRUCTURED = privacy.ALL - {"name"}


def found(text, language="en"):
    return [(each.kind, text[each.start:each.end]) for each in privacy.find(text, language, STRUCTURED)]


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("call (415) 555-2671 after six", "phone", "(415) 555-2671"),
    ("tel 4155552671", "phone", "4155552671"),
    ("415-555-2672 ext. 14 please", "phone", "415-555-2672 ext. 14"),
    ("ring 020 7946 0958", "phone", "020 7946 0958"),
    ("mobile 07700900123", "phone", "07700900123"),
    ("+44 (0)20 7946 0018 rings out", "phone", "+44 (0)20 7946 0018"),
    ("whatsapp +34 612 34 56 78", "phone", "+34 612 34 56 78"),
    ("my number there is +86 138 0013 8000", "chinese_mobile", "+86 138 0013 8000"),
    ("write to Maria.L@Example.com.", "email", "Maria.L@Example.com"),
    ("kenji (at) example (dot) com", "email", "kenji (at) example (dot) com"),
    ("it is paul dot wright at example dot net", "email", "paul dot wright at example dot net"),
    ("login from 203.0.113.42 was not me", "ip", "203.0.113.42"),
    ("my ip is 2001:db8:85a3::8a2e:370:7334", "ip", "2001:db8:85a3::8a2e:370:7334"),
    ("open https://example.com/reset?token=9f86d081884c7d65.", "url_with_token", "https://example.com/reset?token=9f86d081884c7d65"),
    ("ftp://deploy:s3cr3t@files.example.com/in fails", "url_with_token", "ftp://deploy:s3cr3t@files.example.com/in"),
    ("password: Tr0ub4dor&3", "secret", "Tr0ub4dor&3"),
    ("PIN 4821 does not work", "secret", "4821"),
    ("api key: 5f4dcc3b5aa765d61d8327deb882cf99", "secret", "5f4dcc3b5aa765d61d8327deb882cf99"),
    ("aws AKIAIOSFODNN7EXAMPLE leaked", "secret", "AKIAIOSFODNN7EXAMPLE"),
    ("I live at 42 Elm St, Apt 3C, Springfield, IL 62704 now", "address", "42 Elm St, Apt 3C, Springfield, IL 62704"),
    ("moved to 221B Baker Street, London NW1 6XE last week", "address", "221B Baker Street, London NW1 6XE"),
    ("i live at 19 rosewood close", "address", "19 rosewood close"),
    ("to P.O. Box 1142, Flagstaff, AZ 86002", "address", "P.O. Box 1142, Flagstaff, AZ 86002"),
    ("DOB 03/12/1985, no allergies", "date_of_birth", "03/12/1985"),
    ("born on March 12th, 1985 in Leeds", "date_of_birth", "March 12th, 1985"),
    ("21 September 1974 is my date of birth", "date_of_birth", "21 September 1974"),
])
def test_it_is_found_as_people_type_it(text, kind, value):
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("手机号13812345678收不到短信", "chinese_mobile", "13812345678"),
    ("手机１５０１２３４５６７８换了", "chinese_mobile", "１５０１２３４５６７８"),
    ("手机是一三八一二三四五六七八", "chinese_mobile", "一三八一二三四五六七八"),
    ("座机010-62345678一直占线", "phone", "010-62345678"),
    ("邮箱是zhangwei@example.com，发过去", "email", "zhangwei@example.com"),
    ("邮箱chenjie＠example．com写错了", "email", "chenjie＠example．com"),
    ("登录IP是203.0.113.42，不是我", "ip", "203.0.113.42"),
    ("点了http://shop.example.cn/login?sid=a8Kd93jsLq，没反应", "url_with_token", "http://shop.example.cn/login?sid=a8Kd93jsLq"),
    ("登录密码是qwe@2023，总错", "secret", "qwe@2023"),
    ("寄到北京市海淀区中关村大街27号院3号楼2单元501室", "address", "北京市海淀区中关村大街27号院3号楼2单元501室"),
    ("我家住上海市浦东新区世纪大道100号，急", "address", "上海市浦东新区世纪大道100号"),
    ("户籍地湖南省长沙县黄兴镇仙人市村12组", "address", "湖南省长沙县黄兴镇仙人市村12组"),
    ("出生日期：1985年3月12日", "date_of_birth", "1985年3月12日"),
    ("出生于一九六六年九月十七日", "date_of_birth", "一九六六年九月十七日"),
    ("患者，女，1978.08.30生", "date_of_birth", "1978.08.30"),
])
def test_it_is_found_in_chinese_without_spaces(text, kind, value):
    assert found(text, "zh") == [(kind, value)]


@pytest.mark.parametrize("text", [
    "order number 4155552671 has not arrived", "version 10.0.19.1 crashes", "firmware v4.2.1.77", "see section 12.4.1.2 of the contract",
    "127.0.0.1",
    "std::vector and a::b", "the meeting at 10:30:45 on 03/12/2024", "the password is wrong again",
    "password: must be at least 12 characters",
    "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "https://example.com/help?page=2&lang=en", "meet me at example.com", "@harbourbank",
    "call 911", "uuid 123e4567-e89b-12d3-a456-426614174000", "born before June 2010", "the contract was signed on March 12th, 2019",
    "I walked 12 miles down the road", "Top 10 Best Way to cook", "In 2019 Wall Street fell", "take 500 mg every 6 hours",
    "I forgot my password passcode_lost",
])
def test_a_look_alike_stays(text):
    assert found(text) == []


@pytest.mark.parametrize("text", [
    "订单号13812345678到哪里了", "2024年3月12日下午开会", "生日快乐！2024年3月12日见", "系统版本号是8.1.0.12", "密码错误，请重试",
    "密码忘了怎么办", "打110报警", "客服热线95588",
    "3号楼下面的超市", "知道3号线怎么走吗", "12月3号到货", "时间戳1700000000123", "比例是16:9", "这条街8号开业", "根据民法典第1165条",
])
def test_a_chinese_look_alike_stays(text):
    assert found(text, "zh") == []


def test_only_the_date_beside_the_birth_is_found():
    assert found("born 3 May 1979, seen on 4 June 2024") == [("date_of_birth", "3 May 1979")]


def test_two_kinds_in_one_text_come_in_their_order():
    text = "联系人手机13612345678，地址青岛市市南区香港中路10号，邮箱a.b@example.org"
    assert [kind for kind, _ in found(text, "zh")] == ["chinese_mobile", "address", "email"]


def test_only_the_kinds_asked_for_are_given():
    text = "a@example.com 203.0.113.42"
    assert [each.kind for each in privacy.find(text, "en", {"ip"})] == ["ip"]


def test_kinds_are_read_from_text():
    assert privacy.parse_kinds("all") == privacy.ALL and privacy.parse_kinds("email, ip") == {"email", "ip"}
    with pytest.raises(LabError, match="no kind of personal data 'mail'"):
        privacy.parse_kinds("mail")
    with pytest.raises(LabError, match="no kind of personal data is named"):
        privacy.parse_kinds(" , ")


spans = st.lists(st.builds(lambda start, size, score, kind: Finding(kind, start, start + size, score), st.integers(0, 40), st.integers(1,
                                                                                                                                       12),
                           st.floats(0.1, 1), st.sampled_from(privacy.KINDS)), max_size=12)


@given(spans)
def test_settled_findings_cover_what_was_found_and_do_not_overlap(findings):
    settled = settle(findings)
    assert all(one.end <= other.start for one, other in zip(settled, settled[1:], strict=False))
    covered = {place for each in settled for place in range(each.start, each.end)}
    assert covered == {place for each in findings for place in range(each.start, each.end)}
    assert {each.kind for each in settled} <= {each.kind for each in findings}


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("0123456789 -./:@+()xXaＡ１号路市生年月日码account传真电话住在\nİß"), max_size=60), st.sampled_from(["en",
                                                                                                                    "zh"]))
def test_any_text_gives_spans_inside_it(text, language):
    for each in privacy.find(text, language, STRUCTURED):
        assert 0 <= each.start < each.end <= len(text) and each.kind in privacy.KINDS and 0 < each.score <= 1


@pytest.mark.parametrize("text", ["1" * 40000, "a" * 40000 + "@", "1 " * 20000, "1-" * 20000, "号路" * 20000, "a." * 20000 + "@",
                                  "Aa 1 " * 8000, "password " * 5000,
                                  "born 1 " * 6000, "::" * 20000, "市区县" * 12000 + "路", "http://" * 6000 + "=", "(" * 40000,
                                  "dot at " * 6000 + " dot x"])
def test_no_text_takes_time_that_grows_with_its_square(text):
    start = time.process_time()
    privacy.find(text, "zh", STRUCTURED)
    assert time.process_time() - start < 3
