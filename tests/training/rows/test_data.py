"""Rows for training: the template against its goldens, masks token by token, what is dropped, and each mistake in one line."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tulu_eval import hub
from tulu_eval.errors import DataError, PreflightError, UnknownName
from tulu_eval.training.randomness import derive, permutation
from tulu_eval.training.rows import data
from tulu_eval.training.text import Encoder, render, render_prompt


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="module")
def tokenizer(llama3_like: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(llama3_like)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def reader(tokenizer: PreTrainedTokenizerBase) -> data.RowReader:
    return data.RowReader(Encoder(tokenizer), max_length=64, vocabulary=len(tokenizer))


def write(path: Path, *rows: Any) -> list[Path]:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return [path]


class TestTemplate:
    def test_prompt_equals_the_goldens_where_there_is_nothing_to_strip(self, shared: Path) -> None:
        goldens = json.loads((shared / "data/training/tulu_template_golden.json").read_text())
        seen = 0
        for golden in goldens:
            stripped = [{**message, "content": message["content"].strip()} for message in golden["messages"]]
            found = render_prompt(stripped, golden["eos_token"])
            if stripped == golden["messages"]:
                assert found == golden["open_instruct_fn_add_bos_False"]
                seen += 1
                if golden["case"] == "user" and golden["add_generation_prompt"]:
                    assert found == golden["jinja"]
            else:
                assert found.split() == golden["open_instruct_fn_add_bos_False"].split()
        assert seen >= 12

    def test_conversation_without_the_last_newline(self) -> None:
        text, spans = render([user(" Hi "), assistant("\nYo ")], "</s>")
        assert text == "<|user|>\nHi\n<|assistant|>\nYo</s>"
        assert [text[a:b] for a, b in spans] == ["Yo</s>"]


class TestMasks:
    def test_answers_and_their_end_tokens_only(self, tokenizer: PreTrainedTokenizerBase) -> None:
        row = Encoder(tokenizer).conversations(
            [[user("Hi"), assistant("Yo, Ann"), user("Bye"), assistant("So long")]], last_only=False
        )[0]
        assert row.ids[0] == tokenizer.bos_token_id
        assert not row.mask[0]
        assert tokenizer.decode(row.ids[row.mask]) == "Yo, Ann<|end_of_text|>So long<|end_of_text|>"
        whole = "<|user|>\nHi\n<|assistant|>\nYo, Ann<|end_of_text|>\n<|user|>\nBye\n<|assistant|>\nSo long<|end_of_text|>"
        assert row.ids[1:].tolist() == tokenizer(whole, add_special_tokens=False)["input_ids"]

    def test_last_message_only(self, tokenizer: PreTrainedTokenizerBase) -> None:
        row = Encoder(tokenizer).conversations(
            [[user("Hi"), assistant("Yo"), user("Bye"), assistant("So long")]], last_only=True
        )[0]
        assert tokenizer.decode(row.ids[row.mask]) == "So long<|end_of_text|>"
        assert row.mask[-1]

    def test_llama2_like(self, llama2_like: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(llama2_like)
        row = Encoder(tokenizer).conversations([[user("Hi"), assistant("Yo, Ann")]], last_only=True)[0]
        assert row.ids[0] == tokenizer.bos_token_id
        assert row.ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(row.ids[row.mask]).replace(" ", "") == "Yo,Ann</s>"

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(min_size=1, max_size=12).filter(lambda text: text.strip()), min_size=1, max_size=4))
    def test_answer_survives_the_round_trip(self, tokenizer: PreTrainedTokenizerBase, answers: list[str]) -> None:
        messages = [message for answer in answers for message in (user("q"), assistant(answer))]
        row = Encoder(tokenizer).conversations([messages], last_only=True)[0]
        found = tokenizer.decode(row.ids[row.mask], clean_up_tokenization_spaces=False)
        assert found == answers[-1].strip() + "<|end_of_text|>"

    def test_prompt_with_and_without_bos(self, tokenizer: PreTrainedTokenizerBase) -> None:
        encoder = Encoder(tokenizer)
        without, with_bos = (encoder.prompts([[user("Hi")]], bos=bos)[0].ids.tolist() for bos in (False, True))
        assert with_bos == [tokenizer.bos_token_id, *without]
        assert tokenizer.decode(without) == "<|user|>\nHi\n<|assistant|>\n"


class TestReader:
    def test_pairs(self, reader: data.RowReader, tmp_path: Path) -> None:
        good = {"chosen": [user("Hi"), assistant("Yo")], "rejected": [user("Hi"), assistant("No")], "source": "me"}
        equal = {"chosen": [user("Hi"), assistant("Yo")], "rejected": [user("Hi"), assistant("Yo ")]}
        empty = {"chosen": [user("Hi"), assistant(" ")], "rejected": [user("Hi"), assistant("Yo")]}
        other = {"chosen": [user("Hi"), assistant("Yo")], "rejected": [user("Ho"), assistant("No")]}
        long = {"chosen": [user("Hi"), assistant("Yo")], "rejected": [user("Hi"), assistant("No" * 200)]}
        found = reader.pairs(write(tmp_path / "p.jsonl", good, equal, empty, "", other, long, good))
        assert len(found.rows) == 2
        assert found.dropped == {"equal sides": 1, "empty message": 1, "different prompts": 1, "over 64 tokens": 1}
        assert found.rows[0].chosen.ids.tolist() == found.rows[1].chosen.ids.tolist()

    @pytest.mark.parametrize("text", ["one <|end_of_text|> two", "<|begin_of_text|>", "it ends<|eot_id|>", "<|end_of_text|>"])
    def test_a_special_tokens_text_in_a_message_is_text(self, reader: data.RowReader, tmp_path: Path, text: str) -> None:
        tokenizer, eos = reader.encoder._tokenizer, reader.encoder.eos_id
        whole = [user(text), assistant(text), user("Hi"), assistant(f"Yo {text}")]
        reader = dataclasses.replace(reader, max_length=500)
        (row,) = reader.conversations(write(tmp_path / "s.jsonl", {"messages": whole})).rows
        assert [one for one in row.ids.tolist() if one in tokenizer.all_special_ids] == [tokenizer.bos_token_id, eos, eos]
        assert tokenizer.decode(row.ids[1:]) == render(whole, "<|end_of_text|>")[0]
        answers = tokenizer.decode(row.ids[row.mask])
        assert answers == f"{text}<|end_of_text|>Yo {text}<|end_of_text|>"
        pair = {"chosen": [user("Hi"), assistant(text)], "rejected": [user("Hi"), assistant("No")]}
        (pair_row,) = reader.pairs(write(tmp_path / "p.jsonl", pair)).rows
        assert pair_row.chosen.ids.tolist().count(eos) == pair_row.rejected.ids.tolist().count(eos) == 1
        (prompt,) = reader.prompts(write(tmp_path / "q.jsonl", {"messages": whole}), bos=False).rows
        assert tokenizer.decode(prompt.ids) == render_prompt(whole[:3], "<|end_of_text|>")
        assert prompt.ids.tolist().count(eos) == 1

    def test_a_lone_surrogate_is_refused_with_its_line(self, reader: data.RowReader, tmp_path: Path) -> None:
        answers = [{"messages": [user("Hi"), assistant(text)]} for text in ("Yo", "Yo \ud83d")]
        prompts = [{"messages": [user("Hi")]}, {"messages": [user("Hi \ud83d")]}]
        with pytest.raises(DataError, match=r"s.jsonl:2: has the lone surrogate .ud83d, which is half a character"):
            reader.conversations(write(tmp_path / "s.jsonl", *answers))
        with pytest.raises(DataError, match=r"s.jsonl:2: has the lone surrogate .ud83d, which is half a character"):
            reader.prompts(write(tmp_path / "s.jsonl", *prompts), bos=False)

    def test_exactly_the_longest_is_kept_whole(self, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
        row = {"messages": [user("Hi"), assistant("one two three")]}
        paths = write(tmp_path / "s.jsonl", row)
        length = len(data.RowReader(Encoder(tokenizer), 500, len(tokenizer)).conversations(paths).rows[0])
        assert len(data.RowReader(Encoder(tokenizer), length, len(tokenizer)).conversations(paths).rows[0]) == length
        with pytest.raises(DataError, match=f"no row is left to train on; dropped: .'over {length - 1} tokens': 1"):
            data.RowReader(Encoder(tokenizer), length - 1, len(tokenizer)).conversations(paths)

    def test_prompts_of_each_form(self, reader: data.RowReader, tmp_path: Path) -> None:
        rows = (
            {"messages": [user("Hi")]},
            {"messages": [user("Hi"), assistant("recorded")]},
            {"chosen": [user("Hi"), assistant("Yo")], "rejected": [user("Hi"), assistant("No")]},
            {"history_messages": [user("Hi")]},
            {"conversation": [user("Hi")]},
            {"instruction": "Hi"},
        )
        found = reader.prompts(write(tmp_path / "q.jsonl", *rows), bos=False)
        assert [row.ids.tolist() for row in found.rows] == [found.rows[0].ids.tolist()] * len(rows)

    def test_fingerprint_follows_the_tokens(self, reader: data.RowReader, tmp_path: Path) -> None:
        one = reader.prompts(write(tmp_path / "1.jsonl", {"messages": [user("Hi")]}), bos=False)
        same = reader.prompts(write(tmp_path / "2.jsonl", {"messages": [user("Hi ")], "more": 1}), bos=False)
        other = reader.prompts(write(tmp_path / "3.jsonl", {"messages": [user("Ho")]}), bos=False)
        assert one.sha256 == same.sha256 != other.sha256

    def test_more_rows_than_a_chunk(self, reader: data.RowReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = write(tmp_path / "q.jsonl", *({"messages": [user(str(n))]} for n in range(7)))
        whole = reader.prompts(paths, bos=False)
        monkeypatch.setattr(data, "CHUNK", 3)
        cut = reader.prompts(paths, bos=False)
        assert (cut.sha256, len(cut.rows)) == (whole.sha256, 7)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("{", "is not JSON"),
            ("[1]", "is list, not an object"),
            ({"prompt": "Hi"}, "none of the columns chosen and rejected, alone or with prompt; its columns: prompt"),
            ({"chosen": [], "rejected": []}, "no list of messages under 'chosen'"),
            ({"chosen": "Yo", "rejected": "No"}, "no list of messages under 'chosen'"),
            ({"chosen": [{"role": "human", "content": "Hi"}]}, "chosen[0] has role 'human'; known: system, user, assistant"),
            ({"chosen": [{"role": "user", "content": 3}]}, "chosen[0] is not {"),
            (
                {"chosen": [user("a"), {"role": "system", "content": "b"}]},
                "chosen[1] is a system message but not the first",
            ),
            ({"chosen": [user("a")], "rejected": [user("b")]}, "chosen must be a prompt and then an assistant's message"),
            ({"chosen": [assistant("a")], "rejected": [assistant("b")]}, "chosen must be a prompt and then"),
        ],
    )
    def test_mistakes_have_a_line_number(self, reader: data.RowReader, tmp_path: Path, row: Any, message: str) -> None:
        good = {"chosen": [user("Hi"), assistant("Yo")], "rejected": [user("Hi"), assistant("No")]}
        with pytest.raises(DataError) as caught:
            reader.pairs(write(tmp_path / "p.jsonl", good, row))
        assert f"p.jsonl:2: {message}" in str(caught.value)

    def test_more_mistakes(self, reader: data.RowReader, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"1: a prompt must end with a user's message"):
            reader.prompts(write(tmp_path / "a", {"messages": [{"role": "system", "content": "Be."}]}), bos=False)
        with pytest.raises(DataError, match=r"1: messages has no assistant's message"):
            reader.conversations(write(tmp_path / "b", {"messages": [user("Hi")]}))
        with pytest.raises(DataError, match="is empty"):
            reader.conversations(write(tmp_path / "c"))
        with pytest.raises(DataError, match="no such file"):
            reader.conversations([tmp_path / "absent"])
        (tmp_path / "d").write_bytes(b'{"messages": "\xff"}\n')
        with pytest.raises(DataError, match="is not UTF-8"):
            reader.conversations([tmp_path / "d"])

    def test_token_outside_a_vocabulary(self, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
        small = data.RowReader(Encoder(tokenizer), 64, vocabulary=100)
        with pytest.raises(DataError, match=r"q.jsonl:1: token \d+ is outside a model's vocabulary of 100"):
            small.prompts(write(tmp_path / "q.jsonl", {"messages": [user("Hi")]}), bos=False)


class TestBadRows:
    BAD: tuple[Any, ...] = (
        "{not json",
        "[1]",
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [user("Hi"), {"role": "tool", "content": "x"}]},
        {"other": 1},
        json.dumps({"messages": [user("Hi"), assistant("\ud83d")]}),
        {"messages": [user("Hi")]},
    )

    def test_they_are_refused_with_their_line(self, reader: data.RowReader, tmp_path: Path) -> None:
        good = {"messages": [user("Hi"), assistant("Yo")]}
        for bad in self.BAD:
            with pytest.raises(DataError, match=r"s\.jsonl:2: "):
                reader.conversations(write(tmp_path / "s.jsonl", good, bad, good))

    def test_they_are_skipped_and_counted_by_reason(self, reader: data.RowReader, tmp_path: Path) -> None:
        good = {"messages": [user("Hi"), assistant("Yo")]}
        rows = [one for bad in self.BAD for one in (good, bad)]
        lenient = dataclasses.replace(reader, skip_bad=True)
        found = lenient.conversations(write(tmp_path / "s.jsonl", *rows))
        assert len(found.rows) == len(self.BAD)
        assert found.sha256 == reader.conversations(write(tmp_path / "t.jsonl", *[good] * len(self.BAD))).sha256
        assert sum(found.dropped.values()) == len(self.BAD)
        assert found.dropped["bad row: messages[N] has role 'tool'"] == 2
        assert found.dropped["bad row: messages has no assistant's message, so there is nothing to train on"] == 1
        assert all(reason.startswith("bad row: ") and "s.jsonl" not in reason for reason in found.dropped)

    def test_ids_outside_a_vocabulary_are_counted_together(self, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
        small = data.RowReader(Encoder(tokenizer), 64, 100, skip_bad=True)
        with pytest.raises(DataError, match=r"no row is left .*bad row: token N is outside a model's vocabulary of N.: 2"):
            small.prompts(write(tmp_path / "q.jsonl", {"messages": [user("Hi")]}, {"messages": [user("You")]}), bos=False)


class TestHub:
    def test_files_of_a_split(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        names = (
            "README.md", "data/uf-00000-of-00001.jsonl", "data/train-00000-of-00002-ab12.parquet",
            "data/train-00001-of-00002-cd34.parquet", "plain.jsonl",
        )  # fmt: skip
        info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
        monkeypatch.setattr(hub, "ask", lambda *a: info)
        monkeypatch.setattr(hub, "dataset_file", lambda dataset, name: tmp_path / name)
        assert data.files_of_split("o/d", "uf") == [tmp_path / "data/uf-00000-of-00001.jsonl"]
        assert [path.name[:11] for path in data.files_of_split("o/d", "train")] == ["train-00000", "train-00001"]
        assert data.files_of_split("o/d", "plain") == [tmp_path / "plain.jsonl"]
        with pytest.raises(UnknownName, match=r"unknown split of o/d 'trian'\. Did you mean 'train'"):
            data.files_of_split("o/d", "trian")

    def test_unreachable_and_not_cached(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub, "ask", lambda *a: None)
        with pytest.raises(PreflightError, match="give a file with --data"):
            data.files_of_split("nobody/nothing-of-that-name", "train")

    def test_parquet_is_read(self, reader: data.RowReader, tmp_path: Path) -> None:
        import datasets

        path = tmp_path / "train.parquet"
        rows = [{"messages": [user("Hi"), assistant("Yo")]}, {"messages": [user("Hi"), assistant("No")]}]
        datasets.Dataset.from_list(rows).to_parquet(str(path))
        assert reader.conversations([path]).sha256 == reader.conversations(write(tmp_path / "same.jsonl", *rows)).sha256


class TestRandomness:
    def test_derived_numbers_are_stable_and_distinct(self) -> None:
        assert derive(42, 3, "rollout") == derive(42, 3, "rollout") < 2**63
        assert len({derive(s, t, p) for s in range(5) for t in range(5) for p in ("a", "b")}) == 50

    def test_order_is_a_permutation_of_its_own_for_each_epoch(self) -> None:
        orders = [permutation(50, 42, epoch) for epoch in (0, 1)]
        assert all(sorted(order) == list(range(50)) for order in orders)
        assert orders[0] != orders[1]
        assert permutation(50, 42, 0) == orders[0]
        assert np.array_equal(permutation(1, 0, 0), [0])


def test_half_a_character_is_refused_with_its_line(reader: data.RowReader, tmp_path: Path, shared: Path) -> None:
    good = {"messages": [user("Hi"), assistant("Yo")]}
    bad = json.dumps({"messages": [user("Hi"), assistant("\ud83d")]})
    with pytest.raises(DataError, match=r"s.jsonl:2: has the lone surrogate \\ud83d, which is half a character"):
        reader.conversations(write(tmp_path / "s.jsonl", good, bad))
    case = shared / "cases/13-lone-surrogate-traceback/surr_sft.jsonl"
    with pytest.raises(DataError, match=r"surr_sft.jsonl:\d+: has the lone surrogate"):
        reader.conversations([case])


def test_rows_of_every_file_form_train_the_same(reader: data.RowReader, tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "chosen": "Yo", "rejected": "No"}, {"prompt": "Ho", "chosen": "No", "rejected": "Yo"}]
    lines = "".join(json.dumps(row) + "\r\n" for row in rows).encode()
    found = set()
    for name, content in {
        "lines": lines, "mark": b"\xef\xbb\xbf" + lines, "gz": gzip.compress(lines), "list": json.dumps(rows).encode(),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        found.add(reader.pairs([tmp_path / name]).sha256)
    assert len(found) == 1


def test_a_tokenizer_that_makes_nothing_of_a_text_is_one_line(llama3_like: Path, tmp_path: Path) -> None:
    odd = AutoTokenizer.from_pretrained(llama3_like)
    odd.backend_tokenizer.normalizer = normalizers.Replace(Regex("(?m).{3,}"), "")
    odd.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    reader = data.RowReader(Encoder(odd), 64, len(odd))
    with pytest.raises(DataError, match=r"q\.jsonl:1: the tokenizer returns no token for one of its texts"):
        reader.prompts(write(tmp_path / "q.jsonl", {"messages": [user("Hi")]}), bos=False)


@pytest.mark.parametrize("length", ["\ud800", [], {}])
def test_a_tokenizer_of_odd_settings_is_one_line(llama3_like: Path, length: Any) -> None:
    odd = AutoTokenizer.from_pretrained(llama3_like)
    odd.model_max_length = length
    with pytest.raises(PreflightError, match="the tokenizer cannot be used: "):
        Encoder(odd)
