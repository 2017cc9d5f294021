"""Full text: each query finds the records that a person would expect, no more and no fewer, in English and in Chinese."""

import pytest

from tests.labeling.contract import words
from tests.labeling.contract.words import everything, like, nothing, phrase, prefix, word

WORDS = [
    ("refund", word("refund")),
    ("refunds", word("refunds")),
    ("REFUND", word("refund")),
    ("ReFuNd", word("refund")),
    ("lost card", word("lost") & word("card")),
    ("card lost", word("lost") & word("card")),
    ("lost   card\tparcel", word("lost") & word("card") & word("parcel")),
    ("  late  ", word("late")),
    ("unheard", nothing),
    ("refund unheard", nothing),
    ("ref", word("ref")),  # not a prefix
    ("42", word("42")),
    ("order_42", word("order_42")),
    ("order", word("order")),  # not order_42
    ("3.5", phrase("3.5")),
    ("15", nothing),
    ("a", word("a")),
    ("A-1042", word("a") & word("1042")),
    ("state-of-the-art", phrase("state of the art")),
    ("don't", phrase("don't")),
    ("vip", word("vip")),
    ("back", word("back")),
    ("where", word("where")),  # in a message
    ("paid lost", word("paid") & word("lost")),  # in two fields
    ("it refund", word("it") & word("refund")),  # one in a message, one in a text
]
ACCENTS = [
    ("café", word("café")),
    ("CAFÉ", word("café")),
    ("cafe\u0301", word("café")),  # the same written as two characters
    ("naïve", word("naïve")),
    ("NAÏVE", word("naïve")),
]
OPERATORS = [
    ("refund + card", word("refund") & word("card")),
    ("+refund +card", word("refund") & word("card")),
    ("refund | card", word("refund") | word("card")),
    ("refund|card", word("refund") | word("card")),
    ("refund | card | parcel", word("refund") | word("card") | word("parcel")),
    ("refund -card", word("refund") & ~word("card")),
    ("-card refund", word("refund") & ~word("card")),
    ("-card", ~word("card")),
    ("-card -refund", ~word("card") & ~word("refund")),
    ("-unheard", everything),
    ("refund -unheard", word("refund")),
    ("refund | -card", word("refund") | ~word("card")),
    ("-card | refund", word("refund") | ~word("card")),
    ("-card | -refund", ~word("card") | ~word("refund")),
    ("-(card | refund)", ~(word("card") | word("refund"))),
    ("-(card refund)", ~(word("card") & word("refund"))),
    ("late -(card | refund)", word("late") & ~(word("card") | word("refund"))),
    ("(refund | card) late", (word("refund") | word("card")) & word("late")),
    ("late (refund | card)", (word("refund") | word("card")) & word("late")),
    ("(refund | card) (late | lost)", (word("refund") | word("card")) & (word("late") | word("lost"))),
    ("(refund late) | (card lost)", (word("refund") & word("late")) | (word("card") & word("lost"))),
    ("((refund))", word("refund")),
    ("((refund | card) -late) | parcel", ((word("refund") | word("card")) & ~word("late")) | word("parcel")),
    ("late -(card -refund)", word("late") & ~(word("card") & ~word("refund"))),
    ("(-card)", ~word("card")),
    ("refund unheard | card", (word("refund") & word("unheard")) | word("card")),
    ("late | refund card", (word("late") | word("refund")) & word("card")),  # from left to right, as Lucene does
    ("late | refund + card", (word("late") | word("refund")) & word("card")),
    ("refund late | card lost", ((word("refund") & word("late")) | word("card")) & word("lost")),
    ("late | refund -card", (word("late") | word("refund")) & ~word("card")),
    ("and", word("and")),
    ("not", word("not")),
    ("or", word("or")),
    ("near", word("near")),
    ("refund AND card", word("refund") & word("and") & word("card")),
    ("NOT refund", word("not") & word("refund")),
    ("refund OR card", word("refund") & word("or") & word("card")),
]
PHRASES = [
    ('"lost card"', phrase("lost card")),
    ('"card lost"', phrase("card lost")),
    ('"Lost CARD"', phrase("lost card")),
    ('"refund"', word("refund")),
    ('-"lost card"', ~phrase("lost card")),
    ('"lost card" refund', phrase("lost card") & word("refund")),
    ('"lost card" | "late parcel"', phrase("lost card") | phrase("late parcel")),
    ('"state of the art"', phrase("state of the art")),
    ('"my card lost"', phrase("my card lost")),  # across two messages is none
    ('"call back"', phrase("call back")),
    ('"late refund"', phrase("late refund")),  # across a text and a note is none
    ('"lost, card!"', phrase("lost card")),
    ('"and not"', phrase("and not")),
]
PREFIXES = [
    ("refun*", prefix("refun")),
    ("REFUN*", prefix("refun")),
    ("ref* car*", prefix("ref") & prefix("car")),
    ("ref* | parc*", prefix("ref") | prefix("parc")),
    ("-ref*", ~prefix("ref")),
    ("refund*", prefix("refund")),
    ("unh*", nothing),
    ("order_*", prefix("order_")),
    ("(ref* | car*) late", (prefix("ref") | prefix("car")) & word("late")),
    ("4*", prefix("4")),
    ("退*", word("退")),
    ("信用*", phrase("信用")),
    ("caf*", prefix("caf")),
]
CHINESE = [
    ("退款", phrase("退款")),
    ("退", word("退")),
    ("款", word("款")),
    ("退 款", word("退") & word("款")),
    ("信用卡", phrase("信用卡")),
    ("银行卡", phrase("银行卡")),
    ("卡", word("卡")),
    ("款式", phrase("款式")),
    ("退款式", phrase("退款式")),
    ("信用卡 丢了", phrase("信用卡") & phrase("丢了")),
    ("信用卡 | 银行卡", phrase("信用卡") | phrase("银行卡")),
    ("卡 -信用卡", word("卡") & ~phrase("信用卡")),
    ("-退款", ~phrase("退款")),
    ("(退款 | 订单) 手机", (phrase("退款") | phrase("订单")) & phrase("手机")),
    ('"我的卡"', phrase("我的卡")),
    ('"退款" 没有', phrase("退款") & phrase("没有")),
    ("我的 -(退款 | 订单)", phrase("我的") & ~(phrase("退款") | phrase("订单"))),
    ("保险", nothing),
    ("款退", phrase("款退")),
    ("iPhone手机", phrase("iphone手机")),
    ("iPhone", word("iphone")),
    ("IPHONE 手机", word("iphone") & phrase("手机")),
    ("42号", phrase("42号")),
    ("退款 refund", phrase("退款") & word("refund")),
    ("退款 | refund", phrase("退款") | word("refund")),
    ("回电", phrase("回电")),
    ("订单呢", phrase("订单呢")),
    ("谢谢 手机", phrase("谢谢") & phrase("手机")),
    ("退款！", phrase("退款")),
    ("（退款）", phrase("退款")),
]
FIELDS = [
    ("late", "text", word("late")),
    ("late", "note", word("late")),
    ("refund", "note", word("refund")),
    ("退款", "note", phrase("退款")),
    ("退款", "text", phrase("退款")),
    ("call back", "note", word("call") & word("back")),
    ("call", "text", nothing),
    ("-late", "note", ~word("late")),
    ("late | vip", "note", word("late") | word("vip")),
    ("lost card", "text", word("lost") & word("card")),
    ("card", "chat", word("card")),
    ("lost again", "chat", word("lost") & word("again")),
    ('"my card"', "chat", phrase("my card")),
    ("订单", "chat", phrase("订单")),
    ("re*", "note", prefix("re")),
    ("(late | refund) -vip", "note", (word("late") | word("refund")) & ~word("vip")),
    ("unheard", "note", nothing),
]
FUZZY = [
    ("refnd~1", like("refnd", 1)),
    ("refund~1", like("refund", 1)),
    ("crd~1", like("crd", 1)),
    ("parsel~1 late", like("parsel", 1) & word("late")),
    ("-refnd~1", ~like("refnd", 1)),
    ("refusd~2 | 退款", like("refusd", 2) | phrase("退款")),
    ("parcel~0", word("parcel")),
]
ESCAPED = [
    ("\\-card", word("card")),
    ("\\+card", word("card")),
    ("card\\*", word("card")),
    ("\\(card\\)", word("card")),
    ("refund\\|card", word("refund") & word("card")),
    ('\\"card', word("card")),
    ('"lost \\" card"', phrase("lost card")),
    ("A\\-1042", word("a") & word("1042")),
]
ODD = ["(", ")", '"', "*", "-", "|", "+", "~", "\\", "((((", "))))", "()", '""', '" "', "- -", "| |", "!!!", "，！", "*card", "^card",
       "{card}", "card:", "text:card", "text : card", "%", "_", "'", "' OR 1=1 --", '"unclosed card', "(unclosed card", "card)",
       ") card (", "card AND", "NEAR(card lost)", "card~", "card~99", '"card lost"~', "card^2", "--card", "a" * 3000, "card " * 400,
       "(" * 200 + "card" + ")" * 200, "😀", "𠮷野家", "カード", "카드", "\u0000", "\u200bcard", "\ud83d\ude00 card", "card\n\nlost",
       "<b>card</b>", "\\\\", "卡\\", "卡*卡", "-" * 300]
NEARLY = ["lost card", "card lost", "refund late", "退款 手机", "我的 订单"]


def expected(asked, wanted, field=None):
    return sorted(item.id for item in asked.items if wanted(words.parts(item.fields, field)))


def named(table):
    return [pytest.param(*row, id=f"{number}: {' in '.join(str(each) for each in row[:-1])}") for number, row in enumerate(table)]


@pytest.mark.parametrize(("query", "wanted"), named(WORDS + ACCENTS))
def test_words_are_found_whatever_their_case_and_all_of_them_must_be_there(asked, query, wanted):
    assert sorted(asked.by_client(query)) == expected(asked, wanted)


@pytest.mark.parametrize(("query", "wanted"), named(OPERATORS))
def test_operators_combine_words(asked, query, wanted):
    assert sorted(asked.by_client(query)) == expected(asked, wanted)


@pytest.mark.parametrize(("query", "wanted"), named(PHRASES + PREFIXES))
def test_phrases_and_prefixes(asked, query, wanted):
    assert sorted(asked.by_client(query)) == expected(asked, wanted)


@pytest.mark.parametrize(("query", "wanted"), named(CHINESE))
def test_chinese_is_found_as_it_is_written(asked, query, wanted):
    assert sorted(asked.by_client(query)) == expected(asked, wanted)


@pytest.mark.parametrize(("query", "field", "wanted"), named(FIELDS))
def test_a_search_can_be_kept_to_one_field(asked, query, field, wanted):
    assert sorted(asked.found(query, field=field)) == expected(asked, wanted, field)


@pytest.mark.parametrize(("query", "wanted"), named(FUZZY))
def test_a_tilde_allows_for_slips_of_the_pen(asked, query, wanted):
    assert sorted(asked.by_client(query)) == expected(asked, wanted)


@pytest.mark.parametrize(("query", "wanted"), named(ESCAPED))
def test_a_backslash_takes_an_operators_meaning_away(asked, query, wanted):
    assert sorted(asked.by_client(query)) == expected(asked, wanted)


@pytest.mark.parametrize("query", [pytest.param(query, id=f"{number}") for number, query in enumerate(ODD)])
def test_no_query_makes_the_server_fail(asked, query):
    ids = asked.found(query)
    assert set(ids) <= {item.id for item in asked.items} and len(set(ids)) == len(ids)


@pytest.mark.parametrize("between", [1, 2, 3])
@pytest.mark.parametrize("pair", NEARLY)
def test_a_phrase_with_a_tilde_leaves_room_between_its_words(asked, pair, between):
    one, other = pair.split()
    found = set(asked.by_client(f'"{pair}"~{between}'))
    assert found >= set(expected(asked, words.apart(one, other, between)))
    # Elasticsearch also takes the words in reverse, at the price of two places; nobody takes them from further away.
    assert found <= set(expected(asked, words.apart(one, other, between) | words.apart(other, one, between)))


def test_better_matches_come_first(asked):
    scores = [item["query_score"] for item in asked.search("refund | card | parcel")["items"]]
    assert all(score > 0 for score in scores) and scores == sorted(scores, reverse=True)
