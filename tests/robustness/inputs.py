"""Every file that a verb is given, spoiled: rows, cards, bundles, and what lies in the folder of a model."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robustness import mutations, places
from robustness.cases import put
from robustness.places import Place
from robustness.tally import SEED

MODEL_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """One spoiled input.

    Attributes:
        verb: The name of the line that reads it.
        name: Which ``{name}`` of the line it stands for.
        file: The file, inside a model's folder or for itself.
        field: Path of the field; empty for the file itself.
        kind: What was done.
        apply: Does it to a copy of what the name stands for.
    """

    verb: str
    name: str
    file: str
    field: str
    kind: str
    apply: Callable[[Path], Any]


def words(place: Place, one: Input) -> list[str]:
    """Makes the spoiled copy, and returns the line that reads it."""
    good = Path(place.names[one.name])
    copy = place.root / "spoiled" / good.name
    copy.parent.mkdir()
    if good.is_dir():
        shutil.copytree(good, copy)
    else:
        shutil.copyfile(good, copy)
    one.apply(copy)
    return dataclasses.replace(place, names={**place.names, one.name: str(copy)}).words(one.verb)


def of_files(place: Place) -> Iterator[Input]:
    """Yields every file that a line names, spoiled as a file and, where it is JSON, in every field of its first row."""
    for verb, line in places.LINES.items():
        given = [*line.arguments, *(value for values in line.options.values() for value in values)]
        for name in dict.fromkeys(word[1:-1] for word in given if word.startswith("{") and word.endswith("}")):
            path = Path(place.names[name])
            if not path.is_file():
                continue
            for kind, change in mutations.of_files(random.Random(SEED), Path(place.names["card"])):
                yield Input(verb, name, path.name, "", kind, change)
            if path.suffix in (".json", ".jsonl"):
                yield from _of_rows(verb, name, path)


def _of_rows(verb: str, name: str, path: Path) -> Iterator[Input]:
    """Yields mutations of the first row, of a list or of lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        first, _, rest = text.partition("\n")
        begin, end = "", "\n" + rest
    else:
        whole = json.loads(text)
        first, begin = json.dumps(whole[0]), "["
        end = "".join(", " + json.dumps(row) for row in whole[1:]) + "]"
    for one in mutations.mutations(json.loads(first)):
        yield Input(
            verb, name, path.name, one.field, one.kind, lambda copy, one=one: put(copy, f"{begin}{one.text}{end}")
        )  # fmt: skip


def of_model(place: Place) -> Iterator[Input]:
    """Yields every file of a model's folder, spoiled; weights by their header."""
    folder = Path(place.names["model"])
    for verb in ("run", "train"):
        for name in MODEL_FILES:
            for one in mutations.mutations(json.loads((folder / name).read_text(encoding="utf-8"))):
                yield Input(
                    verb, "model", name, one.field, one.kind, lambda copy, one=one, name=name: put(copy / name, one.text)
                )
            yield from _of_file(verb, name)
        yield from _of_file(verb, "model.safetensors")
        yield from _of_header(verb, folder / "model.safetensors")
        yield from _of_index(verb, folder / "model.safetensors")
        for number, template in enumerate(TEMPLATES):
            kind = f"{number}: {template[:40]}"
            yield Input(
                verb,
                "model",
                "chat_template.jinja",
                "",
                kind,
                lambda copy, text=template: put(copy / "chat_template.jinja", text),
            )
        yield from _of_file(verb, "chat_template.jinja")


def _of_file(verb: str, name: str) -> Iterator[Input]:
    for kind, change in mutations.of_files(random.Random(SEED)):
        yield Input(verb, "model", name, "", kind, lambda copy, change=change: change(copy / name))


def _of_header(verb: str, path: Path) -> Iterator[Input]:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    few = {name: header[name] for name in list(header)[:3]}
    for one in mutations.mutations(few):
        text = one.text.encode("utf-8", "surrogatepass")
        yield Input(
            verb, "model", "model.safetensors, header", one.field, one.kind,
            lambda copy, text=text: (copy / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data),
        )  # fmt: skip
    for length in (0, 1, 7, size - 1, size + 1, len(raw), 1 << 31, 1 << 62, (1 << 64) - 1):
        yield Input(
            verb, "model", "model.safetensors, header", "length", str(length),
            lambda copy, length=length: (copy / "model.safetensors").write_bytes(struct.pack("<Q", length) + raw[8:]),
        )  # fmt: skip


def _of_index(verb: str, path: Path) -> Iterator[Input]:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    names = [name for name in json.loads(raw[8 : 8 + size]) if name != "__metadata__"]
    index = {"metadata": {"total_size": len(raw) - size - 8}, "weight_map": dict.fromkeys(names, "model-1.safetensors")}

    def sharded(copy: Path, text: str) -> None:
        (copy / "model.safetensors").rename(copy / "model-1.safetensors")
        put(copy / "model.safetensors.index.json", text)

    for one in mutations.mutations(index):
        yield Input(
            verb, "model", "model.safetensors.index.json", one.field, one.kind, lambda copy, one=one: sharded(copy, one.text)
        )
    for other in ("../model.safetensors", "/etc/passwd", "missing.safetensors", "", ".", "config.json", "x" * 300, "a\u0000b"):
        text = json.dumps({**index, "weight_map": {**index["weight_map"], names[0]: other}})
        yield Input(
            verb, "model", "model.safetensors.index.json", "weight_map", f"a part {other[:20]!r}",
            lambda copy, text=text: sharded(copy, text),
        )  # fmt: skip


_TURN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
TEMPLATES = (
    "{% for a in range(1000000000) %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    "{{ 'x' * 1000000000 }}",
    _TURN + "{{ 'x' * 100000000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ range(10 ** 9) | list }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'a'.center(10 ** 9) }}",
    "{{ ([[1] * 10 ** 5] * 10 ** 5) | string }}",
    "{{ raise_exception('no') }}",
    "{{ raise_exception('\x1b[31m\n' * 1000) }}",
    "{{ 1 / 0 }}",
    "{{ undefined.x.y }}",
    "{{ messages[7].content }}",
    "{% if %}",
    "{{",
    "{% for %}",
    "{% raw %}",
    "{% include 'config.json' %}",
    "{% extends 'x' %}",
    "{% import 'os' as os %}",
    "",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum(n=100000) }}",
    "Hello.",
    "{{ messages[0].content | trim }}",
    "{{ messages[0].content | upper }}",
    "{{ messages[0].content[:5] }}",
    "{{ messages[0].content | escape }}",
    "{{ messages[0].content | wordwrap(10) }}",
    "{{ messages }}",
    "{{ messages[0].content | replace('a', '') }}",
    "{{ messages[0].content | tojson }}",
    "{{ messages[0].content }}" * 2,
    _TURN + "\x00",
    "{{ messages[0]['content'][0]['text'] }}",
    _TURN + "{{ strftime_now('%d %b %Y') }}",
    _TURN + "{{ strftime_now('%' * 100000) }}",
    _TURN + "\ud800",
    _TURN + "\x1b[31m\u202e",
    "{{ bos_token }}" * 10 + _TURN,
    "{{ eos_token }}" + _TURN,
    _TURN + "<think>\n",
    "{% generation %}" + _TURN + "{% endgeneration %}",
    "{% set ns = namespace(x=0) %}{% for m in messages %}{% set ns.x = ns.x + 1 %}{% endfor %}{{ ns.x }}",
    "{{ dict(a=1).update({}) }}" * 1000 + _TURN,
    "{# " + "x" * 1_000_000 + " #}" + _TURN,
    "{{ namespace }}{{ range }}" + _TURN,
    "{{ random }}",
    _TURN + "{{ [1, 2, 3] | random }}",
    _TURN + "{{ namespace() }}",
    "{% if add_generation_prompt is defined %}{{ 0 }}{% endif %}" + _TURN * 3,
)
"""Chat templates that loop, swell, raise, reach out, strip, drop, repeat or steer."""
