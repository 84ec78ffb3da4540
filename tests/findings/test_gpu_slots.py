"""Jobs on GPUs: nothing overlaps, large ones lie on whole nodes, and each begins when its GPUs are free."""

from __future__ import annotations

import random

import pytest

from tulu_eval.findings.gpu_slots import Slot, pack


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
