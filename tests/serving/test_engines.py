"""What every engine promises: which weights answer, streaming, stopping, prefix reuse, threads."""

import dataclasses
import gc
import threading
import time

import numpy as np
import pytest

from labkit import models
from labkit.errors import LabError
from labkit.serving import KINDS, Sampling, open_engine
from tests.serving.tiny import make_base, make_run, seal, without_gguf

SHORT = Sampling(max_tokens=24)


@pytest.fixture
def opened():
    """Opens engines that are closed when the test ends."""
    engines = []

    def open_one(*arguments, **settings):
        engines.append(open_engine(*arguments, **{"threads": 1, **settings}))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


def answer(engine, chat, sampling=SHORT):
    return "".join(engine.stream(chat, sampling))


# which weights


def test_a_base_pane_has_no_adapter_and_a_runs_pane_its_own(tiny, tiny_runs, kind, opened):
    base = opened(tiny, kind=kind)
    assert (base.weights.base_name, base.weights.base, base.weights.adapter) == ("tiny-llama", tiny.sha256, None)
    assert base.weights.engine == kind
    for run in tiny_runs:
        assert opened(tiny, run, kind=kind).weights.adapter == run.manifest()["adapter"]["sha256"]


def test_a_base_pane_answers_as_the_base_alone_does(tiny, tiny_runs, opened):
    import torch
    from transformers import AutoModelForCausalLM

    adapted, base = opened(tiny, tiny_runs[0], kind="llama.cpp"), opened(tiny, kind="llama.cpp")
    model = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32).eval()
    differ = 0
    for question in ("When?", "Where?", "Who was it?", "Why?"):
        chat = [{"role": "user", "content": question}]
        tokens = base._chat.encode(chat)
        with torch.inference_mode():
            whole = model.generate(torch.tensor([tokens]), max_new_tokens=5, do_sample=False, eos_token_id=2)[0]
        said = answer(base, chat, Sampling(max_tokens=5))
        assert said == base._chat._tokenizer.decode(whole[len(tokens):], skip_special_tokens=True).rstrip("\ufffd")
        differ += answer(adapted, chat, Sampling(max_tokens=5)) != said
    assert differ == 4


def test_panes_at_work_at_the_same_time_never_swap(tiny, tiny_runs, chat, kind, opened):
    engines = [opened(tiny, run, kind=kind, threads=1) for run in (*tiny_runs, None)]
    draws = [Sampling(max_tokens=40, seed=seed, temperature=0.5 * seed) for seed in range(3)]
    alone = [[answer(engine, chat, sampling) for sampling in draws] for engine in engines]
    hashes = [engine.weights for engine in engines]
    assert len({tuple(texts) for texts in alone}) == 3
    for _ in range(4):
        together = [[], [], []]

        def work(pane, found):
            for sampling in draws:
                found.append(answer(engines[pane], chat, sampling))

        threads = [threading.Thread(target=work, args=(pane, found)) for pane, found in enumerate(together)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert together == alone
    assert [engine.weights for engine in engines] == hashes


@pytest.mark.parametrize("change", ["altered", "missing", "config"])
def test_a_run_with_a_file_altered_or_missing_is_refused(tiny, tmp_path, kind, change):
    run = make_run(tiny, tmp_path / "run")
    path = run.adapter_folder / ("adapter_config.json" if change == "config" else "adapter_model.safetensors")
    whole = path.read_bytes()
    path.unlink() if change == "missing" else path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(LabError, match="missing" if change == "missing" else "altered"):
        open_engine(tiny, run, kind=kind)


def test_an_adapter_other_than_the_manifests_is_refused(tiny, tmp_path, kind):
    """The files list may be in order and the adapter's own entry not: what is loaded decides."""
    import json

    run = make_run(tiny, tmp_path / "run")
    manifest = run.manifest() | {"adapter": {"sha256": "0" * 64}}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LabError, match="is not the manifest's"):
        open_engine(tiny, run, kind=kind)


def test_an_unfinished_run_is_refused(tiny, tmp_path, kind):
    run = make_run(tiny, tmp_path / "run")
    (run.folder / "manifest.json").unlink()
    with pytest.raises(LabError, match="not finished"):
        open_engine(tiny, run, kind=kind)


def test_a_run_of_another_base_is_refused(tiny, tiny_runs, tmp_path, kind):
    with pytest.raises(LabError, match="was trained on tiny-llama"):
        open_engine(make_base(tmp_path / "other", seed=9), tiny_runs[0], kind=kind)


def test_a_base_whose_file_is_not_what_its_hash_says_is_refused(tmp_path, kind):
    base = make_base(tmp_path / "base")
    name = "tiny.gguf" if kind == "llama.cpp" else "model.safetensors"
    data = bytearray((base.folder / name).read_bytes())
    data[-3] ^= 1
    (base.folder / name).write_bytes(data)
    with pytest.raises(LabError, match="not the base model|does not hold the base model"):
        open_engine(base, kind=kind)


def test_a_gguf_with_another_vocabulary_is_refused(tmp_path):
    base = make_base(tmp_path / "base")
    text = (base.folder / "tokenizer.json").read_text()
    changed = text.replace('"he"', '"hx"').replace('"h",\n        "e"', '"h",\n        "x"')
    (base.folder / "tokenizer.json").write_text(changed)
    with pytest.raises(LabError, match="vocabulary"):
        open_engine(base, kind="llama.cpp")


def test_an_adapter_that_does_not_fit_is_refused_in_one_line(tiny, tmp_path, kind):
    from safetensors.numpy import load_file, save_file

    run = make_run(tiny, tmp_path / "run")
    path = run.adapter_folder / "adapter_model.safetensors"
    tensors = {name: tensor[:, :-1].copy() if "lora_A" in name else tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    with pytest.raises(LabError, match="adapter") as error:
        open_engine(tiny, seal(tiny, run.folder), kind=kind)
    assert "\n" not in str(error.value)


# which engine


def test_auto_takes_llamacpp_where_there_is_a_gguf_and_no_gpu(tiny, opened, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert opened(tiny).weights.engine == "llama.cpp"
    assert opened(without_gguf(tiny)).weights.engine == "transformers"


def test_what_cannot_be_opened_says_why(tiny):
    for base, settings, says in ((tiny, {"kind": "onnx"}, ", ".join(KINDS)), (tiny, {"threads": 0}, "threads"),
                                 (without_gguf(tiny), {"kind": "llama.cpp"}, "no GGUF"),
                                 (models.resolve("minilm-l6"), {}, "cannot write text")):
        with pytest.raises(LabError, match=says.replace(".", r"\.")):
            open_engine(base, **settings)


# streaming


def test_the_pieces_are_the_answer_and_its_speed_is_told(tiny, chat, kind, opened):
    engine = opened(tiny, kind=kind)
    assert engine.speed is None
    pieces = list(engine.stream(chat, SHORT))
    assert len(pieces) > 3 and "".join(pieces) == answer(engine, chat)
    assert engine.speed.prompt_tokens == len(engine._chat.encode(chat))
    assert 1 <= engine.speed.tokens <= 24 and not engine.speed.stopped
    assert engine.speed.first_token_seconds > 0 and engine.speed.tokens_per_second > 0


def test_the_end_of_turn_token_ends_an_answer_and_is_not_shown(tiny, chat, kind, opened):
    engine = opened(tiny, kind=kind)
    logits = engine._prompt(engine._chat.encode(chat), threading.Event())
    engine._chat.ends = frozenset([int(logits.argmax())])
    assert answer(engine, chat) == "" and engine.speed.tokens == 1


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(tiny, chat, kind, opened):
    engine = opened(tiny, kind=kind, threads=1)
    drawn = Sampling(temperature=1.0, max_tokens=40, seed=1)
    other = answer(engine, chat, dataclasses.replace(drawn, seed=2))
    assert answer(engine, chat, drawn) == answer(engine, chat, drawn) != other


def test_a_chat_that_does_not_fit_is_refused_before_anything_is_evaluated(tiny, kind, opened):
    engine = opened(tiny, kind=kind)
    with pytest.raises(LabError, match="only 1023 fit"):
        engine.stream([{"role": "user", "content": "x" * 1100}], SHORT)


def test_an_answer_ends_where_the_context_does(tiny, kind, opened):
    engine = opened(tiny, kind=kind)
    engine._chat.ends = frozenset()
    list(engine.stream([{"role": "user", "content": "x" * 960}], Sampling(max_tokens=500)))
    assert engine.speed.prompt_tokens + engine.speed.tokens == 1024 + 1  # the last token need not be evaluated


# the prefix


def heard(engine):
    """A list to which each token's logits are added from now on."""
    found, real = [], engine._backend.evaluate

    def evaluate(*arguments):
        logits = real(*arguments)
        if logits is not None:  # within a prompt none are wanted
            found.append(logits)
        return logits

    engine._backend.evaluate = evaluate
    return found


def test_reusing_the_prefix_gives_the_same_text(tiny, chat, kind, opened):
    """Token by token, until two tokens lie closer together than an engine rounds: llama.cpp multiplies one row on other paths than many,
    and a random model's logits (a standard deviation of 1) are then apart by up to 0.005 on some processors."""
    engine, fresh = opened(tiny, kind=kind), opened(tiny, kind=kind)
    engine.warm(chat[:1])
    held = len(engine._held)
    assert held == len(engine._chat.prefix(chat[:1])) > 20
    reused, whole = heard(engine), heard(fresh)
    talk, rounding = list(chat), 0.02 if kind == "llama.cpp" else 1e-5
    for question in ("And on Sunday?", "Why?", "Thanks."):
        reused.clear(), whole.clear()
        said = answer(engine, talk)
        fresh._held = []
        fresh._backend.forget(0)
        again = answer(fresh, talk)
        assert len(reused) == len(whole) or again != said
        for one, other in zip(reused, whole, strict=False):
            assert np.abs(one - other).max() < rounding
            if one.argmax() != other.argmax():
                assert one.max() - one[other.argmax()] < 2 * rounding
                break
        else:
            assert again == said
        talk += [{"role": "assistant", "content": said}, {"role": "user", "content": question}]


def test_only_what_is_new_is_evaluated(tiny, chat, kind, opened):
    engine = opened(tiny, kind=kind)
    evaluated = []
    real = engine._backend.evaluate
    engine._backend.evaluate = lambda tokens, *rest: evaluated.append(len(tokens)) or real(tokens, *rest)
    engine.warm(chat[:1])
    warmed, prompt = sum(evaluated), len(engine._chat.encode(chat))
    evaluated.clear()
    answer(engine, chat, Sampling(max_tokens=1))
    assert sum(evaluated) == prompt - warmed
    evaluated.clear()
    engine.warm(chat[:1])
    assert evaluated == []


# stopping


def test_stop_during_generation_ends_within_half_a_second(chat, opened):
    engine = opened(models.resolve(), kind="llama.cpp", threads=1)
    engine._chat.ends = frozenset()
    stop = threading.Event()
    stream = engine.stream(chat, Sampling(max_tokens=2000), stop)
    next(stream)
    threading.Timer(0.3, stop.set).start()
    last = time.perf_counter()
    for _ in stream:
        last = last if stop.is_set() else time.perf_counter()
    assert time.perf_counter() - last < 0.5
    assert engine.speed.stopped and 1 < engine.speed.tokens < 2000


@pytest.mark.parametrize("engine_kind", ["llama.cpp", "transformers"])
def test_stop_during_the_prompt_ends_within_half_a_second_and_a_later_answer_is_right(engine_kind, chat, opened):
    engine = opened(models.resolve(), kind=engine_kind, threads=1)
    wanted = answer(engine, chat, Sampling(max_tokens=12))
    long = [chat[0], {"role": "user", "content": "word " * 2000}]
    stop = threading.Event()
    pressed = []
    threading.Timer(1.0, lambda: (pressed.append(time.perf_counter()), stop.set())).start()
    assert list(engine.stream(long, SHORT, stop)) == []
    assert time.perf_counter() - pressed[0] < 0.5
    assert engine.speed.stopped and engine.speed.tokens == 0
    assert answer(engine, chat, Sampling(max_tokens=12)) == wanted


def test_a_stop_set_beforehand_gives_nothing(tiny, chat, kind, opened):
    stop = threading.Event()
    stop.set()
    engine = opened(tiny, kind=kind)
    assert list(engine.stream(chat, SHORT, stop)) == [] and engine.speed.stopped


# one stream at a time


def test_a_second_stream_waits_for_the_first(tiny, chat, opened):
    engine = opened(tiny, kind="llama.cpp")
    first = engine.stream(chat, SHORT)
    begun = next(first)
    second: list[str] = []
    thread = threading.Thread(target=lambda: second.append(answer(engine, chat)))
    thread.start()
    time.sleep(0.3)
    assert second == []
    whole = begun + "".join(first)
    thread.join(10)
    assert second == [whole]


def test_a_stop_while_waiting_for_the_turn_ends_the_wait(tiny, chat, opened):
    engine = opened(tiny, kind="llama.cpp")
    first = engine.stream(chat, SHORT)
    next(first)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert list(engine.stream(chat, SHORT, stop)) == []
    first.close()


def test_a_stream_dropped_half_way_frees_the_engine(tiny, chat, kind, opened):
    engine = opened(tiny, kind=kind)
    whole = answer(engine, chat)
    stream = engine.stream(chat, SHORT)
    next(stream)
    del stream
    gc.collect()
    assert engine.speed.stopped and answer(engine, chat) == whole


def test_a_stream_may_go_on_in_another_thread(tiny, chat, kind, opened):
    engine = opened(tiny, kind=kind)
    whole = answer(engine, chat)
    stream = engine.stream(chat, SHORT)
    pieces = [next(stream)]
    thread = threading.Thread(target=lambda: pieces.extend(stream))
    thread.start()
    thread.join(20)
    assert "".join(pieces) == whole == answer(engine, chat)


def test_closing_ends_an_open_stream_and_refuses_new_ones(tiny, chat, kind):
    engine = open_engine(tiny, kind=kind)
    stream = engine.stream(chat, SHORT)
    next(stream)
    engine.close()
    engine.close()
    assert len(list(stream)) <= 1
    with pytest.raises(LabError, match="closed"):
        list(engine.stream(chat, SHORT))


def test_engines_at_work_share_the_cores_and_one_alone_has_all_of_them_unless_others_need_them(monkeypatch):
    from labkit.serving import engine

    monkeypatch.setattr(engine, "cores", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (4.2, 9, 9))
    shares = engine._Cores()
    with shares.at_work():
        assert shares.share() == 4
        with shares.at_work():
            assert shares.share() == 2
            with shares.at_work(), shares.at_work(), shares.at_work():
                assert shares.share() == 1
        assert shares.share() == 4
        monkeypatch.setattr("os.getloadavg", lambda: (4.6, 0, 0))
        assert shares.share() == 1  # other work would keep the threads waiting for each other
