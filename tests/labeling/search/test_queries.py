"""The query language: what a text means, whatever it is."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labeling.search import database  # noqa: F401  puts the server's side on the path

from argilla_side.search import queries, words  # isort: skip
from argilla_side.search.queries import Both, Constant, Either, Fuzzy, Not, Text  # isort: skip

A, B, C = Text('"a"'), Text('"b"'), Text('"c"')

MEANINGS = [
    ("a", A),
    ("a b", Both((A, B))),
    ("a + b", Both((A, B))),
    ("a | b", Either((A, B))),
    ("a b | c", Either((Both((A, B)), C))),  # Lucene: from left to right
    ("a | b c", Both((Either((A, B)), C))),
    ("a (b | c)", Both((A, Either((B, C))))),
    ("a -b", Both((A, Not(B)))),
    ("-a", Not(A)),
    ("--a", A),
    ("- a", A),  # the sign belongs to what follows at once
    ("-(a | b)", Not(Either((A, B)))),
    ("a | -b", Either((A, Not(B)))),
    ("a-b", Text('"a b"')),
    ("a/b", Both((A, B))),
    ("a*", Text('"a" *', weighs=False)),
    ("a\\*", A),
    ("\\-a", A),
    ('"a b"', Text('"a b"')),
    ('"a b', Both((A, B))),  # a quote without a partner
    ('"a b"~2', Text('NEAR("a" "b", 2)')),
    ('"a"~2', A),
    ("(a", A),
    ("a)", A),
    ("() a", A),
    ('"" a', A),
    ("a !!! b", Both((A, B))),
    ("| a", A),
    ("a |", A),
    ("a a a", A),
    ("a~1", Fuzzy("a", 1)),
    ("a~", Fuzzy("a", 2)),
    ("a~9", Fuzzy("a", 2)),
    ("a~0", A),
    ("a~x", A),
    ("*", Constant(True)),
    ("退款", Text('"退 款"')),
    ("退 款", Both((Text('"退"'), Text('"款"')))),
    ('"退款 手机"~3', Text('NEAR("退 款" "手 机", 3)')),
    ('"退款 我的 手机"~3', Text('NEAR("退 款" "我 的" "手 机", 5)')),
    ("退*", Text('"退" *', weighs=False)),
    ("iPhone手机", Text('"iPhone 手 机"')),
    ("ＶＩＰ", Text('"VIP"')),
    ("don't", Text('"don t"')),
    ("3.5", Text('"3 5"')),
]


@pytest.mark.parametrize(("query", "meaning"), MEANINGS)
def test_a_query_means_what_lucene_makes_of_it(query, meaning):
    assert queries.parse(query) == meaning


@pytest.mark.parametrize("query", ["", " ", "!!!", "，", "-", "()", '""', "|", "+", "~", "\\", '"', "(" * 500])
def test_a_query_without_a_word_finds_nothing(query):
    assert queries.parse(query) == Constant(False)


def test_a_query_with_too_many_clauses_is_refused_with_a_reason():
    with pytest.raises(queries.TooLong, match="1024"):
        queries.parse(" ".join(f"w{number}" for number in range(1100)))


@pytest.fixture(scope="module")
def texts():
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE VIRTUAL TABLE texts USING fts5(t0, tokenize="{words.TOKENIZER}")')
    return connection


@settings(deadline=None, max_examples=300)
@given(query=st.one_of(st.text(max_size=40), st.text(alphabet='ab退款()|+-"~*\\ 1.\'', max_size=60)))
def test_no_text_makes_an_expression_that_sqlite_refuses(texts, query):
    found = queries.simplified(queries.spelled_out(queries.parse(query), lambda word, edits: [word]))
    for expression in expressions(found):
        texts.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (expression,)).fetchall()
    ranked = queries.ranked(found)
    if ranked:
        texts.execute("SELECT bm25(texts) FROM texts WHERE texts MATCH ?", (ranked,)).fetchall()


def expressions(node):
    if isinstance(node, Text):
        yield node.expression
    elif isinstance(node, Not):
        yield from expressions(node.part)
    elif isinstance(node, Both | Either):
        for part in node.parts:
            yield from expressions(part)


NODES = st.recursive(st.sampled_from([A, B, C]), lambda part: st.one_of(
    part.map(queries.negated),
    st.tuples(st.sampled_from([Both, Either]), part, part).map(lambda three: queries.joined(*three))), max_leaves=8)


@settings(deadline=None, max_examples=200)
@given(node=NODES)
def test_a_simplified_query_says_the_same(texts, node):
    """Over all eight texts of the words a, b and c: evaluated by hand, and by SQLite as far as it was left to it."""
    every = [{word for place, word in enumerate("abc") if number >> place & 1} for number in range(8)]
    texts.execute("DELETE FROM texts")
    texts.executemany("INSERT INTO texts (rowid, t0) VALUES (?, ?)", [(number, " ".join(some)) for number, some in enumerate(every)])

    def by_hand(node):
        return holds(node, lambda expression: {number for number, some in enumerate(every) if expression.strip('"') in some})

    def by_sqlite(node):
        found = "SELECT rowid FROM texts WHERE texts MATCH ?"
        return holds(node, lambda expression: {row for (row,) in texts.execute(found, (expression,))})

    assert by_sqlite(queries.simplified(node)) == by_hand(node)


def holds(node, found):
    if isinstance(node, Text):
        return found(node.expression)
    if isinstance(node, Not):
        return set(range(8)) - holds(node.part, found)
    sets = [holds(part, found) for part in node.parts]
    return set.intersection(*sets) if isinstance(node, Both) else set.union(*sets)


def test_the_same_unwritten_difference_is_none():
    assert words.indexed("ＡＢＣ") == "ABC"
    assert words.normal("cafe\u0301") == "café"
    assert words.indexed("退款!").split() == ["退", "款", "!"]
    assert words.phrases("me@example.com 退款，好 卡-card") == [["me", "example", "com"], ["退", "款"], ["好"], ["卡"], ["card"]]
