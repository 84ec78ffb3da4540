"""The same numbers as ``alpaca_eval.metrics`` itself gives, on the same rows and folds.

It runs in another process: importing alpaca_eval sets the root logger, and its fit switches scikit-learn's metadata routing on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.gamed import load_gamed
from tulu_eval.judging.judged import from_annotations, terms_of
from tulu_eval.judging.win_rates import Scoring, score

THEIRS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import pandas as pd
from alpaca_eval.metrics import glm_winrate

folds_file, *paths = sys.argv[1:]

class Fixed(glm_winrate.GroupKFold):
    def split(self, X, y=None, groups=None):
        groups = np.asarray(groups)
        fold = np.load(folds_file)[str(len(np.unique(groups)))][groups]
        for number in range(5):
            yield np.where(fold != number)[0], np.where(fold == number)[0]

def measure(path):
    found = glm_winrate.get_length_controlled_winrate(pd.read_json(path), save_weights_dir=None)
    return {name: float(found[name]) for name in ("length_controlled_winrate", "win_rate", "standard_error")}

stable = [measure(path) for path in paths]
glm_winrate.GroupKFold = Fixed
leaderboard = [measure(path) for path in paths]
print(json.dumps({"stable": stable, "leaderboard": leaderboard}))
"""

MODELS = ("alpaca-7b", "claude-2", "gpt-3.5-turbo-1106")


@pytest.fixture(scope="module")
def paths(shared):
    folder = shared / "data" / "alpaca_eval" / "models"
    return [folder / model / "annotations_weighted_alpaca_eval_gpt4_turbo.json" for model in MODELS]


@pytest.fixture(scope="module")
def theirs(shared, paths, tmp_path_factory):
    """The package's numbers, or a skip that says why it cannot run here."""
    if importlib.util.find_spec("alpaca_eval") is None:
        pytest.skip("alpaca-eval is not installed")
    home = tmp_path_factory.mktemp("hub")
    repository = home / "hub" / "datasets--tatsu-lab--alpaca_eval"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    gamed = shared / "data" / "alpaca_eval" / "df_gamed_rederived.csv"
    (snapshot / "df_gamed.csv").write_bytes(gamed.read_bytes())
    folds = shared / "data" / "alpaca_eval" / "cv_folds_introsort.npz"
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": ""}
    command = [sys.executable, "-c", THEIRS, str(folds), *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        pytest.skip(f"alpaca_eval cannot run here: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("mode", ["leaderboard", "stable"])
@pytest.mark.parametrize("place", range(len(MODELS)), ids=MODELS)
def test_parity(theirs, shared, paths, mode, place):
    gamed = load_gamed(shared / "data" / "alpaca_eval" / "df_gamed_rederived.csv")
    annotations = read_annotations(paths[place])
    found = score(from_annotations(annotations), terms_of(annotations), gamed, Scoring(folds=mode, draws=0))
    package = theirs[mode][place]
    assert found.lc is not None
    assert found.lc.value == pytest.approx(package["length_controlled_winrate"], abs=1e-9)
    assert found.win_rate.win_rate == pytest.approx(package["win_rate"], abs=1e-9)
    assert found.win_rate.standard_error == pytest.approx(package["standard_error"], abs=1e-9)
