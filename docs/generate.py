"""Makes the pages that follow from the code: the files of a run folder, the registry's tables, the Python reference.

``conf.py`` calls :func:`write` before Sphinx reads the pages. What it writes is not kept in the repository.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import os
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from json_shapes import SHAPES

import tulu_eval
from tulu_eval.findings.audit import StoredAudit
from tulu_eval.findings.published_cells import ComparedAs
from tulu_eval.registry.suite_schema import KINDS
from tulu_eval.runs.judged_schema import StoredJudging
from tulu_eval.store.digests import Digest
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.schema import Results, SampleLine

FILES: dict[str, tuple[type[Any], str]] = {
    "manifest.json": (Manifest, "What was run: model, recipe, settings, machine, and what happened in each session."),
    "samples.jsonl": (SampleLine, "One line per sample, written as it finishes; `samples.jsonl.gz` in a packed folder."),
    "result.json": (Results, "One row per scorer and protocol: value, n, interval, counts, signature."),
    "digests.jsonl": (Digest, "One line per sample, where the answers may not be published."),
    "audit.json": (StoredAudit, "What `audit` found."),
    "compared_as.json": (ComparedAs, "Whose published numbers `verify --as` compared the run with."),
    "judged/JUDGE/judging.json": (StoredJudging, "Who judged, how, and what was odd."),
}
"""Record of each file of a run folder, with what is in it."""

ROOT = Path(__file__).parents[1]

PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "speed.md",
    "results/README.md": "results.md",
    "results/reproduce-sums/README.md": "reproduced.md",
    **{f"results/reproduce-sums/seed-{seed}/README.md": f"reproduced-seed-{seed}.md" for seed in range(3)},
    "CHANGELOG.md": "changelog.md",
}
"""Files outside ``docs`` that are pages of the site, and the names of these pages in ``generated``."""

HEAD = "| field | type | meaning |\n|---|---|---|\n"


def write(folder: Path) -> None:
    """Writes all pages, and a JSON Schema per file of a run folder, where they differ from what is there."""
    texts = {"run-files.md": run_files(), "registry-tables.md": registry_tables(), "python.md": python_reference()}
    texts |= {"json.md": verbs_json()}
    texts |= {json_schema_name(name): json.dumps(msgspec.json.schema(kind), indent=2) for name, (kind, _) in SHAPES.items()}
    texts |= {page: with_pages((ROOT / file).read_text("utf-8"), (ROOT / file).parent, folder) for file, page in PAGES.items()}
    texts |= {schema_name(name): json.dumps(msgspec.json.schema(kind), indent=2) for name, (kind, _) in FILES.items()}
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def with_pages(text: str, place: Path, to: Path | None = None) -> str:
    """Returns Markdown of a file in ``place`` for a page in ``to``: links lead to pages, or to the files where there is none.

    A link to a folder becomes its words, because a site has no folders to look at.
    """
    to = to or place

    def moved(link: re.Match[str]) -> str:
        words, target, anchor = link[1], link[2], link[3] or ""
        file = (place / target).resolve()
        if file.is_dir():
            return words[1:-1]
        if str(file.relative_to(ROOT)) in PAGES:
            file = ROOT / "docs" / "generated" / PAGES[str(file.relative_to(ROOT))]
        elif file == ROOT / "README.md":
            file = ROOT / "docs" / "index.md"
        return f"{words}({os.path.relpath(file, to)}{anchor})"

    return re.sub(r"(\[[^\]\n]*\])\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", moved, text)


def schema_name(file: str) -> str:
    """Returns the name of a file's JSON Schema."""
    return f"{Path(file).stem}.schema.json"


def meanings(kind: type[Any]) -> dict[str, str]:
    """Returns what the docstrings of a record and of those it extends say of its fields, by field."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        block = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", block, re.MULTILINE):
            found[name] = plain(text)
    return found


def plain(text: str) -> str:
    """Returns the text of a docstring as Markdown on one line: roles of Sphinx become the name that they end in."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def summary(kind: type[Any]) -> str:
    """Returns the first sentence of a record's docstring; empty where dataclasses wrote it."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    return "" if text.startswith(f"{kind.__name__}(") else plain(text)


def json_schema_name(verb: str) -> str:
    """Returns the name of the JSON Schema of what a verb prints."""
    return f"json-{re.sub(r'[^a-z]+', '-', verb.lower()).strip('-')}.schema.json"


def verbs_json() -> str:
    """Returns the page of what verbs print with ``--json``."""
    blocks, shown = ["# JSON of the verbs, field by field", _OF_VERBS], set[str]()
    for verb, (kind, what) in SHAPES.items():
        _, components = msgspec.json.schema_components([kind])
        of = f" Here: {type_words(msgspec.json.schema(kind))}." if components else ""
        blocks.append(f"## {verb}\n\n{what}{of} [JSON Schema]({json_schema_name(verb)}).")
        for part in components:
            if part not in shown:
                shown.add(part)
                blocks.append(_record_table(_by_name(kind)[part], components[part]))
    return "\n\n".join(blocks) + "\n"


_OF_VERBS = """\
Made from typed records (`docs/json_shapes`), which the tests hold against what every verb prints: no field is missing here,
and none is there that is not here. Notes, errors and progress go to stderr. A record of several verbs stands where it comes
first."""


def run_files() -> str:
    """Returns the page of a run folder's files, made from the records that read and write them."""
    blocks, shown = ["# Files of a run folder, field by field", _INTRODUCTION], set[str]()
    for name, (kind, what) in FILES.items():
        blocks.append(f"## {name}\n\n{what} [JSON Schema]({schema_name(name)}).")
        _, components = msgspec.json.schema_components([kind])
        for part in components:
            if part not in shown:
                shown.add(part)
                blocks.append(_record_table(_by_name(kind)[part], components[part]))
    return "\n\n".join(blocks) + "\n"


_INTRODUCTION = """\
Made from the records that read and write the files (`tulu_eval/store`): a file with a field that is not here is refused.
Fields that *may be absent* are those that older versions did not write, or that some kinds of runs do not have."""


def _by_name(kind: type[Any]) -> dict[str, type[Any]]:
    """Returns a record and all records in its fields by their names."""
    found: dict[str, type[Any]] = {}
    waiting: list[Any] = [kind]
    while waiting:
        one = waiting.pop()
        waiting += typing.get_args(one)
        record = isinstance(one, type) and (issubclass(one, msgspec.Struct) or dataclasses.is_dataclass(one) or _is_named(one))
        if record and one.__name__ not in found:
            found[one.__name__] = one
            waiting += typing.get_type_hints(one, include_extras=False).values()
    return found


def _is_named(kind: type[Any]) -> bool:
    """Whether a record is a named tuple, which JSON has as a list."""
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _record_table(kind: type[Any], schema: Mapping[str, Any]) -> str:
    said, rows = meanings(kind), []
    named = dict(zip(kind._fields, schema["prefixItems"], strict=True)) if _is_named(kind) else schema["properties"]
    for name, field in named.items():
        absent = (
            "" if _is_named(kind) or dataclasses.is_dataclass(kind) or name in schema.get("required", ()) else "may be absent"
        )
        rows.append(f"| `{name}` | {type_words(field)} | {'; '.join(filter(None, (absent, said.get(name, ''))))} |")
    order = " A list of these, in this order." if _is_named(kind) else ""
    return f"### {kind.__name__}\n\n{summary(kind)}{order}\n\n{HEAD}" + "\n".join(rows)


_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def type_words(schema: Mapping[str, Any]) -> str:
    """Returns the type of a JSON Schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(type_words, schema["anyOf"])))
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    if schema.get("type") == "array":
        parts = schema.get("prefixItems") or [schema.get("items") or {}]
        return f"list of {type_words(parts[0])}"
    if schema.get("type") == "object":
        return f"object of {type_words(schema['additionalProperties'])}" if schema.get("additionalProperties") else "object"
    if "pattern" in schema:
        return f"{re.findall(r'[0-9]+', schema['pattern'])[-1]} hexadecimal digits"
    return _WORDS.get(schema.get("type", ""), "anything")


def registry_tables() -> str:
    """Returns the page of the registry's tables, made from the records that read them."""
    blocks = ["# Tables of the registry, key by key", "Made from the records that read the files; an unknown key is refused."]
    kinds = dict(KINDS)
    for name, kind in list(KINDS.items()):
        kinds |= {f"{name}.{field}": part for field, part in _parts(kind)}
    for name, kind in kinds.items():
        said, hints, rows = meanings(kind), typing.get_type_hints(kind), []
        for field in dataclasses.fields(kind):
            needed = "required" if field.default is dataclasses.MISSING else ""
            words = "; ".join(filter(None, (needed, said.get(field.name, ""))))
            rows.append(f"| `{field.name}` | {toml_words(hints[field.name])} | {words} |")
        blocks.append(f"## {name}\n\n{summary(kind)}\n\n{HEAD}" + "\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def _parts(kind: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    """Yields the fields of a record that are records, or lists of some."""
    for name, hint in typing.get_type_hints(kind).items():
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part):
                yield name, typing.cast(type[Any], part)


def toml_words(hint: Any) -> str:
    """Returns the type of a TOML key in words."""
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{one}`" for one in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"list of {toml_words(typing.get_args(hint)[0])}"
    options = [one for one in typing.get_args(hint) or (hint,) if one is not type(None)]
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return " or ".join(words.get(one, "table") for one in options)


def python_reference() -> str:
    """Returns the page of the public names: functions, classes, and the records that the functions return."""
    functions = [name for name in tulu_eval.__all__ if name[0].islower()]
    classes = [name for name in tulu_eval.__all__ if name[0].isupper()]
    returned = {kind for name in functions for kind in _returned(getattr(tulu_eval, name))}
    known = {getattr(tulu_eval, name) for name in classes}
    others = sorted({f"{kind.__module__}.{kind.__qualname__}" for kind in returned - known})
    blocks = [_PYTHON, "## Functions", *map(_directive, ["autofunction"] * len(functions), functions)]
    blocks += ["## Classes", *map(_directive, ["autoclass"] * len(classes), classes)]
    blocks += ["## What the functions return", *(_directive("autoclass", name, "") for name in others)]
    return "\n\n".join(blocks) + "\n"


_PYTHON = """\
# Python reference

Made from the docstrings. Every function is one verb of the command line; a parameter has the name of its option."""


def _directive(kind: str, name: str, before: str = "tulu_eval.") -> str:
    members = "\n:members:" if kind == "autoclass" else ""
    return f"```{{eval-rst}}\n.. {kind}:: {before}{name}" + members.replace("\n", "\n   ") + "\n```"


def _returned(function: Any) -> Iterator[type[Any]]:
    """Yields the records of this package that a function's return annotation names."""
    plain_function = inspect.unwrap(function)
    module = importlib.import_module(plain_function.__module__)
    annotation = plain_function.__annotations__["return"]
    waiting: list[Any] = [eval(annotation, {**_imported(module, annotation), **vars(module)})]  # noqa: S307  our own source
    while waiting:
        one = waiting.pop()
        waiting += typing.get_args(one)
        if isinstance(one, type) and one.__module__.startswith("tulu_eval."):
            yield one


def _imported(module: ModuleType, annotation: str) -> dict[str, Any]:
    """Returns the names of an annotation that its module imports, also those that it imports for type checkers alone."""
    froms = (node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.ImportFrom))
    places = {alias.name: str(node.module) for node in froms for alias in node.names}
    names = [name for name in re.findall(r"\w+", annotation) if places.get(name, "").startswith("tulu_eval.")]
    return {name: getattr(importlib.import_module(places[name]), name) for name in names}
