"""Whatever is done to the server's database, in whatever order, and whenever the process is killed, the index says what it says."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.labeling.search.database import Database

from argilla_side.search.conditions import Condition, Scope  # isort: skip
from argilla_side.search.index import Index  # isort: skip

WORDS, LABELS = ("late", "card", "退款"), ("refund", "card")
PEOPLE, STATUSES = ("ana", "bo"), ("submitted", "draft", "discarded")
pytestmark = pytest.mark.slow


class InStep(RuleBasedStateMachine):
    """Writes as the server does; the records are also kept here, in plain Python."""

    @initialize()
    def start(self):
        self.folder = tempfile.TemporaryDirectory()
        self.server = Database(Path(self.folder.name, "argilla.sqlite"))
        self.dataset = self.server.dataset(questions=(("kind", "label_selection"),), metadata=(("topic", "terms"),), vectors=(("v", 2),))
        self.question = self.server.id_of("questions", self.dataset, "kind")
        self.settings = self.server.id_of("vectors_settings", self.dataset, "v")
        self.people = {name: self.server.user(name) for name in PEOPLE}
        self.records = {}
        self.index = None
        self.open()

    def open(self):
        if self.index is not None:
            self.index.close()
        self.index = Index(self.server.path, Path(self.folder.name, "argilla.search.sqlite"))

    def one(self, number):
        return list(self.records)[number % len(self.records)] if self.records else None

    @rule(word=st.sampled_from(WORDS), topic=st.sampled_from((None, "a", "b")), label=st.sampled_from((None, *LABELS)), east=st.booleans())
    def add(self, word, topic, label, east):
        record = self.server.record(self.dataset, word, topic and {"topic": topic}, suggestions=label and {"kind": label},
                                    vectors={"v": [1, 0] if east else [0, 1]})
        self.records[record] = {"word": word, "topic": topic, "label": label, "east": east, "answers": {}}

    @rule(number=st.integers(0, 30), word=st.sampled_from(WORDS))
    def rewrite(self, number, word):
        if record := self.one(number):
            self.server.change("records", record, fields=json.dumps({"text": word}))
            self.records[record]["word"] = word

    @rule(number=st.integers(0, 30), topic=st.sampled_from(("a", "b")))
    def retell(self, number, topic):
        if record := self.one(number):
            self.server.change("records", record, metadata=json.dumps({"topic": topic}))
            self.records[record]["topic"] = topic

    @rule(number=st.integers(0, 30))
    def delete(self, number):
        if record := self.one(number):
            self.server.delete("records", record)
            del self.records[record]

    @rule(number=st.integers(0, 30), label=st.sampled_from(LABELS))
    def suggest(self, number, label):
        if record := self.one(number):
            self.server.connection.execute("DELETE FROM suggestions WHERE record_id = ?", (record,))
            self.server.suggest(record, self.question, label)
            self.records[record]["label"] = label

    @rule(number=st.integers(0, 30), name=st.sampled_from(PEOPLE), status=st.sampled_from(STATUSES), label=st.sampled_from(LABELS))
    def answer(self, number, name, status, label):
        if record := self.one(number):
            self.server.respond(record, self.people[name], status, kind=label)
            self.records[record]["answers"][name] = (status, label)

    @rule(name=st.sampled_from(PEOPLE))
    def leave(self, name):
        self.server.delete("users", self.people[name])
        self.people[name] = self.server.user(name)
        for record in self.records.values():
            record["answers"].pop(name, None)

    @rule(number=st.integers(0, 30))
    def turn(self, number):
        if record := self.one(number):
            east = not self.records[record]["east"]
            self.server.connection.execute("UPDATE vectors SET value = ? WHERE record_id = ?", ("[1, 0]" if east else "[0, 1]", record))
            self.records[record]["east"] = east

    @rule()
    def restart(self):
        self.open()

    @rule()
    def lose_the_side_database(self):
        self.index.close()
        self.index.store.remove()
        self.index = None
        self.open()

    @rule()
    def reindex(self):
        self.index.index_dataset(self.dataset)

    def those(self, test):
        return sorted(record for record, said in self.records.items() if test(said))

    def found(self, *arguments, **options):
        return sorted(record for record, _ in self.index.search(self.dataset, *arguments, **options).items)

    @invariant()
    def the_index_says_what_the_records_say(self):
        for word in WORDS:
            assert self.found(word) == self.those(lambda said, word=word: said["word"] == word)
        assert self.found(where=[Condition(Scope("metadata", "topic"), ("a",))]) == self.those(lambda said: said["topic"] == "a")
        for label in LABELS:
            condition = Condition(Scope("suggestion", "kind", "value"), (label,))
            assert self.found(where=[condition]) == self.those(lambda said, label=label: said["label"] == label)
            condition = Condition(Scope("response", "kind"), (label,))
            expected = self.those(lambda said, label=label: label in [each for _, each in said["answers"].values()])
            assert self.found(where=[condition]) == expected
        for name, person in self.people.items():
            pending = Condition(Scope("response", None, "status", person), ("pending",))
            assert self.found(where=[pending]) == self.those(lambda said, name=name: name not in said["answers"])
            said = [each["answers"][name][0] for each in self.records.values() if name in each["answers"]]
            assert self.index.progress_of(self.dataset, person) == {"total": len(said), **{each: said.count(each) for each in set(said)}}
        near = [record for record, score in self.index.similar(self.dataset, self.settings, [1, 0]).items if score > 0.9]
        assert sorted(near) == self.those(lambda said: said["east"])
        assert self.index.progress(self.dataset)["total"] == len(self.records)

    def teardown(self):
        self.index.close()
        self.server.connection.close()
        self.folder.cleanup()


InStep.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
test_the_index_stays_in_step = InStep.TestCase
