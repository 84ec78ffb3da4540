"""Every rule of the validator, by a file that breaks it and the exact line that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.registry import load_suite

SOURCE = '[[source]]\nkey = "s"\ndocument = "d"\n'
MODEL = '[[model]]\nhub_id = "us/m"\nstage = "SFT"\nsize = "8B"\nfamily = "f"\n'
CELL = SOURCE + '[[cell]]\nmodel = "allenai/tulu-2-13b"\nmetric = "GSM8K_8shot_CoT"\nsource = "s"\nprinted = '
TABLE = SOURCE + '[[table]]\nsource = "s"\ncolumns = ["GSM8K_8shot_CoT"]\n'
DOUBT = '[[contradiction]]\nid = "c"\nfirst = "a"\nfirst_source = "card"\nsecond = "b"\nsecond_source = "card"\nadvice = "x"\n'
CARD_ROW = (
    '[[card_row]]\nlabel = "x"\nsize = "8B"\nalignment = "-"\ngsm8k = "1"\nalpaca_eval = "1"\n'
    'model = "us/m"\nsource = "card"\nidentity = "certain"\n'
)
UNKNOWN_MODEL = (
    "which is not in the registry. Did you mean 'allenai/tulu-2-13b' or 'allenai/tulu-2-7b' or 'allenai/tulu-2-dpo-13b'?"
)

BAD = {
    "wrong key": (MODEL + 'stagge = "SFT"', ":1: [[model]] us/m: unknown key 'stagge'. Did you mean 'stage'?"),
    "wrong table": ("[[modell]]", ": unknown table [[modell]]. Did you mean 'model' or 'cell'?"),
    "single brackets": ('[model]\nhub_id = "us/m"', ": model must be written as [[model]]"),
    "not a table": ("model = 3", ": model must be written as [[model]]"),
    "not TOML": ("[[model]]\nhub_id = \n", ":2: is not TOML: Invalid value"),
    "missing field": (MODEL + '[[model]]\nhub_id = "us/n"', ":6: [[model]] us/n: 'stage' is missing"),
    "nothing given": ("[[model]]", ":1: [[model]] 1: 'hub_id' is missing"),
    "wrong type": (MODEL + 'context = "8192"', ":1: [[model]] us/m: 'context' must be a whole number, not '8192'"),
    "true is no number": (MODEL + "context = true", ":1: [[model]] us/m: 'context' must be a whole number, not True"),
    "no list": (MODEL + 'aliases = "us/n"', ":1: [[model]] us/m: 'aliases' must be a list"),
    "wrong item": (MODEL + "aliases = [1]", ":1: [[model]] us/m: 'aliases[0]' must be a text, not 1"),
    "wrong choice": (
        MODEL.replace("SFT", "sft"),
        ":1: [[model]] us/m: 'stage' is 'sft'; allowed: base, SFT, DPO, RM, PPO, value, instruct",
    ),
    "space around": (MODEL + 'base = "us/n "', ":1: [[model]] us/m: 'base' is empty or has space around it"),
    "empty": (MODEL.replace("8B", ""), ":1: [[model]] us/m: 'size' is empty or has space around it"),
    "wrong key inside": (
        MODEL + '[[model.defects]]\nfile = "config.json"\nwhat = 1',
        ":1: [[model]] us/m: unknown key 'defects[0].what'. Known: effect, field, file, found, mend, right, source.",
    ),
    "missing inside": (
        MODEL + '[model.package]\ndistribution = "d"',
        ":1: [[model]] us/m: 'package.module' is missing",
    ),
    "no table inside": (MODEL + 'package = "d"', ":1: [[model]] us/m: 'package' must be a table"),
    "hub id": (
        MODEL.replace("us/m", "just-a-name"),
        ":1: [[model]] just-a-name: 'hub_id' must be organisation/name, e.g. 'me/my-model'",
    ),
    "known model": (
        MODEL.replace("us/m", "Allenai/Tulu-2-13b"),
        ":1: [[model]] Allenai/Tulu-2-13b: 'Allenai/Tulu-2-13b' is already in the registry and cannot be defined again",
    ),
    "same model twice": (MODEL + MODEL, ":6: [[model]] us/m: 'us/m' is already in the registry and cannot be defined again"),
    "alias is a model": (
        MODEL + 'aliases = ["allenai/TULU-2-13b"]',
        ":1: [[model]] us/m: the name 'allenai/TULU-2-13b' is already taken by allenai/tulu-2-13b",
    ),
    "alias twice": (
        MODEL + 'aliases = ["us/old"]\n' + MODEL.replace("us/m", "us/n") + 'aliases = ["us/OLD"]',
        ":7: [[model]] us/n: the name 'us/OLD' is already taken by us/m",
    ),
    "alias of a known model": (
        MODEL.replace("us/m", "allenai/tulu-v2.5-llama3-8b-uf-mean-8b-uf-rm"),
        ":1: [[model]] allenai/tulu-v2.5-llama3-8b-uf-mean-8b-uf-rm: the name 'allenai/tulu-v2.5-llama3-8b-uf-mean-8b-uf-rm' is"
        " already taken by allenai/llama-3-tulu-v2.5-8b-uf-mean-8b-uf-rm",
    ),
    "short name taken": (
        MODEL + 'name = "smollm2-135m-instruct"',
        ":1: [[model]] us/m: the name 'smollm2-135m-instruct' is already taken by HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "unknown base": (
        MODEL + 'base = "allenai/tulu-2-13"',
        ":1: [[model]] us/m: 'base' names 'allenai/tulu-2-13', " + UNKNOWN_MODEL,
    ),
    "unknown reward model": (
        MODEL + 'reward_model = "allenai/tulu-v2.5-13b-uf-r"',
        ":1: [[model]] us/m: 'reward_model' names 'allenai/tulu-v2.5-13b-uf-r', which is not in the registry."
        " Did you mean 'allenai/tulu-v2.5-13b-uf-rm' or 'allenai/tulu-v2.5-70b-uf-rm' or 'allenai/tulu-v2.5-ppo-13b-uf-mean'?",
    ),
    "trained from a reward model": (
        MODEL + 'base = "allenai/tulu-v2.5-13b-uf-rm"',
        ":1: [[model]] us/m: 'base' names 'allenai/tulu-v2.5-13b-uf-rm' of stage RM; for a model of stage SFT it must be base,"
        " SFT, DPO, PPO, instruct",
    ),
    "rewarded by a policy": (
        MODEL + 'reward_model = "allenai/tulu-2-13b"',
        ":1: [[model]] us/m: 'reward_model' names 'allenai/tulu-2-13b' of stage SFT; for a model of stage SFT it must be RM",
    ),
    "circle": (
        MODEL + 'base = "us/n"\n' + MODEL.replace("us/m", "us/n") + 'base = "us/m"',
        ":1: [[model]] us/m: 'base' leads in a circle through 'us/m'",
    ),
    "inferred nothing": (MODEL + 'inferred = ["base"]', ":1: [[model]] us/m: 'inferred' names 'base', which is not given here"),
    "no context": (MODEL + "context = 0", ":1: [[model]] us/m: 'context' is 0"),
    "known source": (
        SOURCE.replace('"s"', '"card"'),
        ":1: [[source]] card: 'card' is already in the registry and cannot be defined again",
    ),
    "impossible cell": (
        CELL + '"67.3"',
        ":4: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT '67.3' of allenai/tulu-2-13b cannot be a share of 200 items;"
        " the nearest that can are 67.0 (134 of 200) and 67.5 (135 of 200)",
    ),
    "impossible fraction": (
        CELL + '"0.673"\nfraction = true',
        ":4: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT '0.673' of allenai/tulu-2-13b cannot be a share of 200 items;"
        " the nearest that can are 67.0 (134 of 200) and 67.5 (135 of 200)",
    ),
    "impossible at another n": (
        CELL + '"67.0"\nn = 7',
        ":4: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT '67.0' of allenai/tulu-2-13b cannot be a share of 7 items;"
        " the nearest that can are 57.1 (4 of 7) and 71.4 (5 of 7)",
    ),
    "above 100": (
        CELL + '"100.5"',
        ":4: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT '100.5' of allenai/tulu-2-13b is not between 0 and 100",
    ),
    "below 0": (
        CELL + '"-1.0"',
        ":4: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT '-1.0' of allenai/tulu-2-13b is not between 0 and 100",
    ),
    "fraction above 1": (
        CELL + '"46.0"\nfraction = true',
        ":4: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT '46.0' of allenai/tulu-2-13b is not between 0 and 1",
    ),
    "no number": (
        CELL + '"**46.0**"',
        ":4: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT '**46.0**' of allenai/tulu-2-13b is not a number",
    ),
    "number, not text": (CELL + "46.0", ":4: [[cell]] allenai/tulu-2-13b: 'printed' must be a text, not 46.0"),
    "no items": (
        CELL + '"46.0"\nn = 0',
        ":4: [[cell]] allenai/tulu-2-13b: n of GSM8K_8shot_CoT '46.0' of allenai/tulu-2-13b is 0",
    ),
    "no error": (
        CELL + '"46.0"\nse = nan',
        ":4: [[cell]] allenai/tulu-2-13b: the standard error of GSM8K_8shot_CoT '46.0' of allenai/tulu-2-13b is nan",
    ),
    "unknown metric": (
        CELL.replace("GSM8K_8shot_CoT", "GSM8K_8shot") + '"46.0"',
        ":4: [[cell]] allenai/tulu-2-13b: 'metric' names 'GSM8K_8shot', "
        "which is not in the registry. Did you mean 'GSM8K_8shot_CoT' or 'GSM8K_5shot_lighteval'?",
    ),
    "unknown model": (
        CELL.replace("tulu-2-13b", "tulu-2-13") + '"46.0"',
        ":4: [[cell]] allenai/tulu-2-13: 'model' names 'allenai/tulu-2-13', " + UNKNOWN_MODEL,
    ),
    "unknown source": (
        CELL.replace('source = "s"', 'source = "cards"') + '"46.0"',
        ":4: [[cell]] allenai/tulu-2-13b: 'source' names 'cards', which is not in the registry. Did you mean 'card'?",
    ),
    "number twice": (
        CELL + '"46.0"\n' + CELL.removeprefix(SOURCE) + '"46.5"',
        ":9: [[cell]] allenai/tulu-2-13b: GSM8K_8shot_CoT of allenai/tulu-2-13b in source 's' appears twice",
    ),
    "short row": (
        TABLE + 'rows = [["allenai/tulu-2-13b"]]',
        ":4: [[table]] s: the row of 'allenai/tulu-2-13b' has 0 numbers for 1 columns",
    ),
    "empty row": (TABLE + "rows = [[]]", ":4: [[table]] s: the row of '' has 0 numbers for 1 columns"),
    "fractions of nothing": (
        TABLE + 'rows = []\nfractions = ["MMLU"]',
        ":4: [[table]] s: 'fractions' names 'MMLU', which is not a column",
    ),
    "contradiction of no model": (
        DOUBT + 'models = ["allenai/tulu-2-13"]',
        ":1: [[contradiction]] c: 'models' names 'allenai/tulu-2-13', " + UNKNOWN_MODEL,
    ),
    "contradiction of no source": (
        DOUBT.replace('second_source = "card"', 'second_source = "car"'),
        ":1: [[contradiction]] c: 'second_source' names 'car', which is not in the registry. Did you mean 'card'?",
    ),
    "contradiction of no cell": (
        DOUBT
        + 'models = ["allenai/tulu-2-13b"]\ncells = [{model = "allenai/tulu-2-13b", metric = "IFEval_loose", source = "card"}]',
        ":1: [[contradiction]] c: 'cells' names IFEval_loose of allenai/tulu-2-13b in source 'card', which is not there",
    ),
    "contradiction of another's cell": (
        DOUBT + 'cells = [{model = "allenai/tulu-2-13b", metric = "GSM8K_8shot_CoT", source = "card"}]',
        ":1: [[contradiction]] c: 'cells' names allenai/tulu-2-13b, but 'models' does not",
    ),
    "contradiction's pattern": (
        DOUBT + "pattern = '('",
        ":1: [[contradiction]] c: 'pattern' is not a regular expression: missing ), unterminated subpattern at position 0",
    ),
    "contradiction twice": (
        DOUBT.replace('"c"', '"ppo-13b-gsm8k"'),
        ":1: [[contradiction]] ppo-13b-gsm8k: 'ppo-13b-gsm8k' is already in the registry and cannot be defined again",
    ),
    "a row of the card": (
        MODEL + CARD_ROW,
        ":6: [[card_row]] x: rows of the card belong to the suite's own files; write your numbers as [[cell]] or [[table]]",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    text, message = BAD[name]
    file = tmp_path / "own.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_suite(file)
    said = str(caught.value).removeprefix(str(file))
    if name == "not TOML":  # the rest is tomllib's wording
        assert said.startswith(message)
    else:
        assert said == message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(b'a = "\xff"')
    with pytest.raises(DataError) as caught:
        load_suite(file)
    assert str(caught.value) == f"{file}:1: is not UTF-8 (byte 6 of the line)"


def test_toml_nested_without_end_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("a = " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(DataError, match="nested too deeply"):
        load_suite(file)


SCALARS = st.one_of(
    st.booleans(), st.integers(-5, 5), st.sampled_from(['"x"', "[]", "{}", "1.5", '["a"]', "nan", "2024-01-01"])
)
KEYS = st.sampled_from(
    ["hub_id", "stage", "aliases", "package", "defects", "context", "inferred", "model", "rows", "printed", "cells"]
)


@settings(deadline=None)  # each example reads files
@given(
    st.sampled_from(["model", "cell", "table", "contradiction", "card_row", "family_row", "source", "metric"]),
    st.dictionaries(KEYS, SCALARS),
)
def test_no_wrong_table_gets_past_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, keys: dict[str, object]
) -> None:
    file = tmp_path_factory.mktemp("registry") / "own.toml"
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()]
    file.write_text("\n".join([f"[[{kind}]]", *lines]), encoding="utf-8")
    with pytest.raises(DataError):
        load_suite(file)
