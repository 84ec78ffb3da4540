"""Verdicts on published numbers, against enumeration: same and other weights, partial runs, differing settings."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from made_manifest import MANIFEST, made_manifest
from msgspec.structs import replace

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.benchmarks.bbh import BBH
from tulu_eval.benchmarks.humaneval import HumanEval
from tulu_eval.benchmarks.mmlu import MMLU
from tulu_eval.errors import DataError, UnknownName, UserError
from tulu_eval.findings.published_cells import as_released, released_model
from tulu_eval.findings.verify import Verification, verify
from tulu_eval.registry import load_suite
from tulu_eval.runs.reading import StoredRun, read_run
from tulu_eval.runs.scoring import make_rows
from tulu_eval.stats import wilson
from tulu_eval.store import manifest as files
from tulu_eval.store.sample_line import Marks
from tulu_eval.store.setup_schema import StoredBenchmark, StoredDecoding, stored, stored_protocol
from tulu_eval.store.tally import Tally

PPO_13B = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"
DPO_70B = "allenai/tulu-2-dpo-70b"
MakeRun = Callable[..., Path]


def flips_p_value(gap: int, n: int) -> float:
    """Probability of a net change of at least ``gap`` if each of n items flips with 5 %, to right as likely as to wrong."""
    rate = Fraction(1, 20)
    # More than 40 flips either way have a probability below 1e-12 at n = 200.
    ways = ((up, down) for up, down in itertools.product(range(41), repeat=2) if abs(up - down) >= gap)
    return float(
        sum(
            math.comb(n, up) * math.comb(n - up, down) * (rate / 2) ** (up + down) * (1 - rate) ** (n - up - down)
            for up, down in ways
        )
    )


def fisher_p_value(k1: int, n1: int, k2: int, n2: int) -> float:
    ways = {x: math.comb(n1, x) * math.comb(n2, k1 + k2 - x) for x in range(max(0, k1 + k2 - n2), min(n1, k1 + k2) + 1)}
    return float(Fraction(sum(w for w in ways.values() if w <= ways[k1]), sum(ways.values())))


def main_rows(found: Verification) -> dict[tuple[str, str], tuple[str, float]]:
    return {
        (one.cell.printed, one.cell.source.key): (one.agreement.verdict, one.agreement.p_value)
        for one in found.comparisons
        if one.main
    }


def test_121_of_200_against_58_and_67(make_run: MakeRun) -> None:
    """The acceptance test: a run of the model itself, against both values that the record prints for it."""
    found = verify(read_run(make_run(right=121)), load_suite())
    p67, p58 = flips_p_value(13, 200), flips_p_value(5, 200)
    assert p67 < 0.05 < p58
    rows = main_rows(found)
    assert rows == {
        ("67.0", "card"): ("inconsistent", pytest.approx(p67, abs=1e-11)),
        ("58.0", "card-13b-70b-uf-rm"): ("consistent", pytest.approx(p58, abs=1e-11)),
        ("58.0", "card-8b-uf-rm"): ("consistent", pytest.approx(p58, abs=1e-11)),
    }
    assert found.same_weights
    assert found.inconsistent
    assert [entry.id for entry in found.contradictions] == ["ppo-13b-gsm8k"]
    assert found.differences == ()
    assert all(0 < one.agreement.detectable <= one.agreement.margin == 5.0 for one in found.comparisons)


def test_as_another_model_the_weights_count_as_others(make_run: MakeRun) -> None:
    run = read_run(make_run(right=121, model="my-checkpoint", revision="sha256:1234", backend="transformers"))
    found = verify(run, load_suite(), stand_in="tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm")
    assert not found.same_weights
    assert not found.inconsistent
    assert main_rows(found) == {
        ("67.0", "card"): ("cannot tell", fisher_p_value(121, 200, 134, 200)),
        ("58.0", "card-13b-70b-uf-rm"): ("cannot tell", fisher_p_value(121, 200, 116, 200)),
        ("58.0", "card-8b-uf-rm"): ("cannot tell", fisher_p_value(121, 200, 116, 200)),
    }
    assert [(s.name, s.changes) for s in found.differences] == [("model", "weights"), ("backend", "numerics")]


def test_both_protocols_of_a_full_run_and_the_published_one_decides(make_run: MakeRun) -> None:
    found = verify(read_run(make_run(right=lambda place: place % 200 < 121, protocol="full")), load_suite())
    of_card = [one for one in found.comparisons if one.cell.source.key == "card"]
    assert [(one.row.protocol, one.items, one.main, one.agreement.method) for one in of_card] == [
        ("card-200", "same", True, "symmetric flips"),
        ("full", "superset", False, "hypergeometric"),
    ]
    assert {row.scorer for row in found.beside} == {"stated-answer"}


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("my-checkpoint", "sha256:12", r"no published number of my-checkpoint: it is not in the registry\. --as NAME"),
        ("tulu-2-13b", "sha256:12", r"tulu-2-13b: it is a local folder .* is allenai/tulu-2-13b\. --as tulu-2-13b"),
        ("someone/else", "abcdef", "no published number of someone/else: it is not in the registry"),
        (
            "smollm2-135m-instruct",
            "sha256:12",
            r"nothing to compare: 1\.4 \(.*\): its items are those of protocol lighteval, and the run has protocol card-200",
        ),
    ],
)
def test_a_model_without_published_numbers_is_told_so(make_run: MakeRun, model: str, revision: str, message: str) -> None:
    run = read_run(make_run(right=10, model=model, revision=revision, limit=20))
    with pytest.raises(UserError, match=message):
        verify(run, load_suite(), partial=True)
    with pytest.raises(UnknownName, match="Did you mean 'tulu-2-13b'"):
        verify(run, load_suite(), stand_in="tulu-2-13bb", partial=True)


def lighteval_run(make_run: MakeRun, right: int) -> Path:
    """A run of SmolLM2's protocol with the weights of the package index."""
    return make_run(
        right=right, protocol="lighteval", model="smollm2-135m-instruct", revision="sha256:12", form="chat",
        write=lambda place, is_right: f" So it is {place + 1}.\n#### {place + 1 if is_right else 0}",
    )  # fmt: skip


@pytest.mark.parametrize(("right", "verdict"), [(18, "consistent"), (60, "inconsistent")])
def test_a_card_of_another_harness_is_compared_with_its_own_protocol(make_run: MakeRun, right: int, verdict: str) -> None:
    found = verify(read_run(lighteval_run(make_run, right)), load_suite())
    (one,) = found.comparisons
    assert (one.cell.printed, one.row.scorer, one.row.n, one.items) == ("1.4", "hash-answer", 1319, "same")
    assert (one.row.value, one.agreement.verdict) == (100 * right / 1319, verdict)
    assert not found.same_weights, "the package's are quantised"
    assert [(s.name, s.changes) for s in found.differences] == [("model", "weights")]


def test_the_published_numbers_of_another_protocol_are_not_compared(make_run: MakeRun) -> None:
    run = read_run(lighteval_run(make_run, 18))
    with pytest.raises(UserError, match="its items are those of protocol card-200, and the run has protocol lighteval"):
        verify(run, load_suite(), stand_in=PPO_13B)


def test_changed_weights_are_other_weights(make_run: MakeRun) -> None:
    run = read_run(make_run(right=121, quantization="fp8", dtype="float16"))
    assert released_model(run, load_suite()) is not None
    assert not as_released(run)
    found = verify(run, load_suite())
    assert not found.same_weights
    assert [s.name for s in found.differences] == ["model", "quantization"]


def test_what_differs_from_the_published_recipe_is_listed_with_noise_last(make_run: MakeRun) -> None:
    run = read_run(make_run(right=121, form="plain", backend="transformers"))
    manifest = replace(
        run.manifest,
        settings=replace(run.manifest.settings, dtype="float16"),
        decoding=replace(run.manifest.decoding, max_new_tokens=256),
        protocol=replace(run.manifest.protocol, prompt_id="0badcafe"),
        benchmark=replace(run.manifest.benchmark, version=7),
    )
    found = verify(dataclasses.replace(run, about=manifest), load_suite())
    assert [(s.name, s.published, s.run, s.noise) for s in found.differences] == [
        ("template", "tulu", "plain", False),
        ("prompt", "bc98d286", "0badcafe", False),
        ("decoding.max_new_tokens", "512", "256", False),
        ("benchmark version", "2", "7", False),
        ("backend", "vllm", "transformers", True),
        ("dtype", "as the model's config says", "bfloat16, asked for", True),
    ]


def test_a_partial_run_gets_no_verdict_unless_asked(make_run: MakeRun) -> None:
    run = read_run(make_run(right=30, limit=50))
    with pytest.raises(UserError, match=r"50 of 200 items are there; --partial compares these 50"):
        verify(run, load_suite())
    found = verify(run, load_suite(), partial=True)
    assert {one.items for one in found.comparisons} == {"other"}
    assert found.comparisons[0].agreement.p_value == fisher_p_value(30, 50, 134, 200)
    assert found.notes == ("protocol card-200: 50 of 200 items are there",)


def test_failures_count_both_ways_and_one_verdict_must_hold_in_both(make_run: MakeRun) -> None:
    found = verify(read_run(make_run(right=121, failed=3)), load_suite())
    row = found.comparisons[0].row
    assert (row.value, row.failed) == (pytest.approx(59.0), 3)
    assert (row.low, row.high) == (100 * wilson(118, 200).low, 100 * wilson(121, 200).high)
    of_67 = next(one.agreement for one in found.comparisons if one.cell.printed == "67.0")
    assert (of_67.verdict, of_67.p_value) == ("inconsistent", pytest.approx(flips_p_value(13, 200), abs=1e-11))
    assert found.notes == ("protocol card-200: 3 of 200 failed, so nobody knows whether the model has them right",)


def test_failures_that_decide_the_verdict_make_it_cannot_tell(make_run: MakeRun) -> None:
    found = verify(read_run(make_run(right=134, failed=20)), load_suite())
    assert [one.agreement.difference for one in found.comparisons] == [
        pytest.approx(one.row.value - one.cell.value) for one in found.comparisons
    ], "of the value that is shown"
    of_67 = next(one.agreement for one in found.comparisons if one.cell.printed == "67.0")
    assert of_67.verdict == "cannot tell"
    assert of_67.explanation == ("cannot tell: 20 failed; inconsistent with 0 of them right, consistent with 20 of them right")


def test_a_whole_published_part_of_an_unfinished_full_run_is_enough(make_run: MakeRun) -> None:
    found = verify(read_run(make_run(right=121, protocol="full", limit=300)), load_suite())
    assert {one.row.protocol for one in found.comparisons} == {"card-200"}
    assert found.notes == ("protocol full: 300 of 1319 items are there",)


def test_numbers_of_a_users_file_count(make_run: MakeRun, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[source]]\nkey = "report"\ndocument = "our report"\n'
        '[[cell]]\nmodel = "allenai/tulu-2-dpo-70b"\nmetric = "GSM8K_8shot_CoT"\nprinted = "60.0"\nn = 1319\n'
        'source = "report"\n'
    )
    run = read_run(make_run(right=121, model=DPO_70B))
    found = verify(run, load_suite(own))
    ours = next(one for one in found.comparisons if one.cell.source.key == "report")
    assert (ours.items, ours.agreement.method) == ("other", "Fisher exact")
    full = read_run(make_run(right=lambda place: place < 791, model=DPO_70B, protocol="full", output="other"))
    ours = next(one for one in verify(full, load_suite(own)).comparisons if one.cell.source.key == "report" and one.main)
    assert (ours.row.protocol, ours.items) == ("full", "same")


def test_rows_that_nothing_was_published_for(make_run: MakeRun) -> None:
    folder = make_run(model=DPO_70B)
    data = json.loads((folder / files.MANIFEST).read_text())
    for name, message in (
        ("alpaca-eval", "has not been judged, and a judge made what was published: 'tulu-eval judge "),
        ("gsm-symbolic", "of any model"),
    ):
        data["benchmark"]["name"] = name
        (folder / files.MANIFEST).write_text(json.dumps(data))
        with pytest.raises(UserError, match=message):
            verify(read_run(folder), load_suite())
    run = read_run(make_run(output="other"))
    other = dataclasses.replace(run, about=replace(run.manifest, items={"custom": ("row-1",)}))
    with pytest.raises(UserError, match="its items are those of protocol card-200"):
        verify(other, load_suite())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), r"is not a run folder: it has no manifest\.json"),
        (lambda folder: edit(folder / "manifest.json", format=2), "is of format 2; tulu-eval .* reads format 1"),
        (lambda folder: edit(folder / "manifest.json", template={}), "template: Object missing required field 'form'"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(make_run: MakeRun, spoil: Callable[[Path], None], message: str) -> None:
    folder = make_run(limit=5)
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_run_scored_again_by_another_version_is_read_with_its_new_grades(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tulu_eval.benchmarks import gsm8k
    from tulu_eval.runs.score import score

    folder = make_run(right=121)
    assert not read_run(folder).regraded
    before = gsm8k.grade_last_number

    def later(target: str, text: str) -> gsm8k.Grade:
        return dataclasses.replace(before(target, text), score=float(target == "1"))

    monkeypatch.setattr(gsm8k, "grade_last_number", later)
    monkeypatch.setattr(gsm8k.GSM8K, "version", gsm8k.GSM8K.version + 1)
    score(folder)
    run = read_run(folder)
    assert run.regraded
    assert run.results[0].value == pytest.approx(0.5)
    assert sum(sample.grades[0].score for sample in run.samples()) == 1
    assert run.doubts == run.notes == ()
    monkeypatch.setattr(gsm8k.GSM8K, "version", gsm8k.GSM8K.version + 1)
    later_still = read_run(folder)
    assert later_still.results == run.results
    (note,) = later_still.notes
    assert "is installed; 'tulu-eval score' grades its samples again" in note


def bbh_run(protocol: str, per_task: int, right: int) -> StoredRun:
    """A run of the Llama-3 SFT model with as many items right in each of 27 tasks."""
    ids = tuple(f"task{task:02}-{place}" for task in range(27) for place in range(per_task))
    found = {name: Marks("ok", (float(int(name[7:]) < right),) * 2, group=name[:6]) for name in ids}
    recipe = BBH.protocols[protocol]
    about = made_manifest(
        model=replace(MANIFEST.model, name="allenai/llama-3-tulu-2-8b", revision="a" * 40),
        benchmark=StoredBenchmark(name="bbh", version=1),
        protocol=stored_protocol(recipe),
        decoding=stored(recipe.decoding, StoredDecoding),
        backend="vllm",
        packages={"vllm": "1"},
        items={protocol: ids},
        planned=ids,
    )
    return StoredRun(Path("run"), about, make_rows(about, BBH(), found), Tally(len(ids), len(ids), 0))


@pytest.mark.parametrize(
    ("protocol", "per_task", "right", "verdict"),
    [
        ("cot", 250, 148, "consistent"),
        ("cot", 250, 138, "inconsistent"),
        ("cot-sorted-40", 40, 24, "cannot tell"),  # of 1080 items, only gaps from 5.9 points would have shown
        ("cot-blank-line", 250, 148, "consistent"),
    ],
)
def test_items_that_nobody_knows_are_another_draw(protocol: str, per_task: int, right: int, verdict: str) -> None:
    """0.592 is 639 of 1080: its standard error is that of a share, the run's that of a mean of tasks."""
    found = verify(bbh_run(protocol, per_task, right), load_suite())
    (one,) = found.comparisons
    assert (one.cell.printed, one.row.scorer, one.items, one.agreement.method) == ("0.592", "exact-match", "other", "normal")
    published, share = 100 * math.sqrt(639 / 1080 * 441 / 1080 / 1080), right / per_task
    own = 100 * math.sqrt(share * (1 - share) / (27 * (per_task - 1)))
    p_value = math.erfc(abs(100 * share - 59.2) / math.hypot(own, published) / math.sqrt(2))
    assert one.agreement.p_value == pytest.approx(p_value, rel=0.05)
    assert one.agreement.verdict == verdict
    assert found.notes == (
        f"which 1080 items 0.592 ({one.cell.source}) is of is not known; they count as another draw",
    )  # fmt: skip
    stops = [setting for setting in found.differences if setting.name == "decoding.stop"]
    assert [one.run for one in stops] == (["('\\n\\n',)"] if protocol == "cot-blank-line" else [])


def test_other_prompts_are_no_draw() -> None:
    with pytest.raises(UserError, match="its items are those of protocol cot, and the run has protocol direct"):
        verify(bbh_run("direct", 250, 148), load_suite())


def suite_run(benchmark: Benchmark, protocol: str, found: dict[str, Marks], backend: str = "transformers") -> StoredRun:
    """A run of the Llama-3 SFT model with these marks."""
    recipe, ids = benchmark.protocols[protocol], tuple(found)
    about = made_manifest(
        model=replace(MANIFEST.model, name="allenai/llama-3-tulu-2-8b", revision="a" * 40),
        benchmark=StoredBenchmark(name=benchmark.name, version=1),
        protocol=stored_protocol(recipe),
        template=replace(MANIFEST.template, form="plain" if benchmark.raw else "tulu"),
        decoding=stored(recipe.decoding, StoredDecoding),
        backend=backend,
        packages={backend: "1"},
        items={protocol: ids},
        planned=ids,
    )
    rows = make_rows(about, benchmark.under(protocol), found)
    return StoredRun(Path("run"), about, rows, Tally(len(ids), len(ids), 0))


@pytest.mark.parametrize(("right", "verdict"), [(8530, "consistent"), (8200, "inconsistent")])
def test_mmlu_was_published_of_8_bit_weights(right: int, verdict: str) -> None:
    """0.606 is 8509 or 8510 of 14042."""
    found = {f"virology-{n}": Marks("ok", (float(n < right),) * 2, group=f"subject {n % 57}") for n in range(14042)}
    verified = verify(suite_run(MMLU(), "card-5-shot", found), load_suite())
    (one,) = verified.comparisons
    assert (one.cell.printed, one.row.scorer, one.items, one.agreement.method) == (
        "0.606", "likeliest-letter", "same", "symmetric flips"
    )  # fmt: skip
    assert one.agreement.verdict == verdict
    assert [(s.name, s.published, s.run, s.noise) for s in verified.differences] == [
        ("quantization", "8-bit (load_in_8bit)", "none", False)
    ]
    assert ("look at quantization first" in verified.conclusion) is (verdict == "inconsistent")


def test_the_mean_of_subjects_and_other_prompts_are_not_compared_with_the_share() -> None:
    found = {f"virology-{n}": Marks("ok", (1.0, 1.0), group="virology") for n in range(500)}
    for protocol in ("stratified-500", "card-5-shot-nan"):
        with pytest.raises(UserError, match=f"are those of protocol card-5-shot, and the run has protocol {protocol}"):
            verify(suite_run(MMLU(), protocol, found), load_suite())


@pytest.mark.parametrize(("right", "verdict"), [(112, "cannot tell"), (60, "inconsistent")])
def test_pass_at_10_is_tested_with_its_standard_error(right: int, verdict: str) -> None:
    """0.685 of 164 problems; here as many of them are always right, and the others never."""
    found = {f"p{n}#{k}": Marks("ok", (float(n < right),) * 2) for n in range(164) for k in range(1, 21)}
    verified = verify(suite_run(HumanEval(), "card-pass10", found, "vllm"), load_suite())
    (one,) = verified.comparisons
    assert (one.cell.printed, one.row.metric, one.row.n, one.agreement.method) == ("0.685", "pass@10", 164, "normal")
    assert one.agreement.verdict == verdict
    assert verified.notes == (f"0.685 ({one.cell.source}) has no standard error; the run's own is taken for it too",)
    assert verified.differences == ()


def test_reading_changes_nothing(make_run: MakeRun) -> None:
    folder = make_run()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = read_run(folder)
    verify(run, load_suite())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sum(1 for _ in run.samples()) == 200
    assert run.ended
    assert dataclasses.replace(run, about=replace(run.manifest, sessions=())).ended == ""


def test_the_demos_own_run_is_what_its_registry_says() -> None:
    """The package's weights are quantised, and so are those behind the demo's number: they are the same weights."""
    results = Path(__file__).parents[2] / "results"
    (folder,) = (results / "smollm2-135m-instruct/sums").glob("four-shot-*")
    found = verify(read_run(folder), load_suite(results / "demo.toml"))
    (one,) = found.comparisons
    assert one.cell.printed == f"{one.row.value:.1f}"
    assert 0 < one.row.value < 100
    assert (one.items, one.agreement.verdict, found.same_weights, found.differences) == ("same", "consistent", True, ())
