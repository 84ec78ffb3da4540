"""The filter of system calls: its numbers against the kernel's headers, its decisions by an interpreter of its own."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from tulu_eval.errors import PreflightError
from tulu_eval.sandbox.system_calls import ALLOW, DENY, MACHINES, filter_program

HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
ABSENT = 0x00050000 | 38


def decide(program: bytes, audit: int, number: int, argument: int = 0) -> int:
    """What the kernel answers, by the four instructions that the filter has."""
    data = struct.pack("=IIQQ", number, audit, 0, argument)
    lines = [struct.unpack_from("=HBBI", program, 8 * place) for place in range(len(program) // 8)]
    at = value = 0
    while True:
        operation, yes, no, operand = lines[at]
        if operation == 0x06:
            return int(operand)
        if operation == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
            at += 1
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[operation]
            at += 1 + (yes if holds else no)


@pytest.mark.parametrize("name", MACHINES)
def test_the_numbers_are_the_kernel_s(name: str) -> None:
    header = Path(HEADERS[name])
    if not header.exists():
        pytest.skip(f"no {header}: the package linux-libc-dev has it")
    numbers = {call: int(number) for call, number in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", header.read_text())}
    machine = MACHINES[name]
    assert {call: numbers.get(call) for call in machine.denied} == machine.denied
    assert (numbers["clone"], numbers["clone3"]) == (machine.clone, 435)


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_denied_and_what_is_not(name: str) -> None:
    program, machine = filter_program(name), MACHINES[name]
    assert {decide(program, machine.audit, number) for number in machine.denied.values()} == {DENY}
    others = set(range(500)) - set(machine.denied.values()) - {435}
    assert {decide(program, machine.audit, number) for number in others} == {ALLOW}
    assert decide(program, machine.audit, 435) == ABSENT
    assert decide(program, machine.audit, machine.clone, 0x10000000 | 17) == DENY  # a user namespace
    assert decide(program, machine.audit, machine.clone, 0x003D0F00) == ALLOW  # a thread, as the C library makes it
    assert decide(program, machine.audit, 0x40000000 + 1) == DENY
    assert decide(program, 0x40000003, 1) == DENY  # 32-bit


def test_another_machine_is_refused() -> None:
    with pytest.raises(PreflightError, match="no sandbox on riscv64"):
        filter_program("riscv64")
