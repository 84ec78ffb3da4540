"""Jobs on GPUs: nothing overlaps, large ones lie on whole nodes, each begins when its GPUs are free, with engines enough."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from tulu_eval.findings.gpu_slots import Load, Slot, pack, spread


def test_one_after_the_other_where_there_is_one_gpu() -> None:
    assert pack([(1, 2.0), (1, 1.0)], 1) == [Slot(0, 0.0, 2.0), Slot(0, 2.0, 3.0)]


def test_the_gpus_that_are_free_first() -> None:
    assert pack([(1, 3.0), (1, 1.0), (1, 1.0)], 2) == [Slot(0, 0.0, 3.0), Slot(1, 0.0, 1.0), Slot(1, 1.0, 2.0)]


def test_a_large_job_waits_for_all_its_gpus() -> None:
    assert pack([(1, 1.0), (4, 1.0)], 4) == [Slot(0, 0.0, 1.0), Slot(0, 1.0, 2.0)]


def test_what_is_left_of_a_number_that_does_not_divide_is_for_small_jobs() -> None:
    assert [slot.first for slot in pack([(4, 1.0), (4, 1.0), (1, 1.0), (1, 1.0)], 6)] == [0, 0, 4, 5]


@pytest.mark.parametrize("seed", range(5))
def test_random_jobs(seed: int) -> None:
    draw = random.Random(seed)
    gpus = draw.choice([8, 12, 64])
    jobs = [(draw.choice([1, 2, 4, 8]), draw.uniform(0.1, 5.0)) for _ in range(60)]
    busy: dict[int, list[tuple[float, float]]] = {}
    for (size, hours), slot in zip(jobs, pack(jobs, gpus), strict=True):
        assert slot.end == pytest.approx(slot.begin + hours)
        assert slot.first % size == 0
        assert slot.first + size <= gpus
        assert slot.first // 8 == (slot.first + size - 1) // 8
        for gpu in range(slot.first, slot.first + size):
            assert all(slot.begin >= end or slot.end <= begin for begin, end in busy.get(gpu, []))
            busy.setdefault(gpu, []).append((slot.begin, slot.end))


def end(loads: list[Load], engines: tuple[int, ...] | list[int], gpus: int) -> float:
    """When the last job ends."""
    jobs = [(load.gpus * count, load.hours(count)) for load, count in zip(loads, engines, strict=True)]
    return max(slot.end for slot in pack(jobs, gpus))


def test_engines_by_hand() -> None:
    """An hour of work in two engines takes half an hour and a start; more engines only where the last job ends earlier."""
    assert spread([Load(1, 1.0, 0.1, 1)], 1) == [1]
    assert spread([Load(1, 1.0, 0.1, 4)], 4) == [4]
    assert spread([Load(1, 1.0, 0.1, 2), Load(1, 1.0, 0.1, 2)], 2) == [1, 1]  # one after the other would start twice
    assert spread([Load(1, 1.0, 0.1, 4), Load(1, 4.0, 0.1, 4)], 4) == [4, 4]  # 0.35 and 1.1 hours
    assert spread([Load(1, 1.0, 0.1, 2), Load(1, 2.0, 0.1, 2)], 3) == [2, 2]  # 0.6 and 1.1 hours, and not 2.1
    assert spread([Load(2, 1.0, 0.1, 1)], 4) == [1]


def test_engines_are_those_of_the_best_of_all_combinations_or_nearly() -> None:
    """The figures are those in the docstring of :func:`spread`."""
    later = []
    for seed in range(300):
        draw = random.Random(seed)
        gpus, count = draw.choice([2, 4, 8]), draw.randint(1, 5)
        loads = []
        for _ in range(count):
            size, work = draw.choice([1, 1, 2]), draw.choice([draw.uniform(0.02, 0.3), draw.uniform(0.02, 3)])
            loads.append(Load(size, work, 112.3 / 3600, gpus // size))
        choices = [[1 << power for power in range(load.most.bit_length())] for load in loads]
        best = min(end(loads, engines, gpus) for engines in itertools.product(*choices))
        later.append(end(loads, spread(loads, gpus), gpus) / best - 1)
    assert (sum(one < 1e-9 for one in later), round(sum(later) / 300, 4), round(max(later), 3)) == (248, 0.0068, 0.169)


def test_engines_for_many_jobs_on_many_gpus_take_seconds() -> None:
    loads = [Load(1, 1 + number % 7, 0.03, 1 << 13) for number in range(1000)]
    began = time.process_time()
    assert end(loads, spread(loads, 10_000), 10_000) < end(loads, [1] * 1000, 10_000)
    assert time.process_time() - began < 10
