"""Tiers follow from static facts."""

import re

import pytest

from protocol.errors import UserError
from trainer.device import MAX_TIER, cpu_tier, detect, slug

V2 = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
V3 = V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("machine", "flags", "tier"),
    [
        ("x86_64", set(), "cpu-x86-64-v1"),
        ("x86_64", V2, "cpu-x86-64-v2"),
        ("AMD64", V3 | {"avx512f"}, "cpu-x86-64-v3"),
        ("x86_64", V4, "cpu-x86-64-v4"),
        ("x86_64", V4 - {"popcnt"}, "cpu-x86-64-v1"),
        ("aarch64", set(), "cpu-aarch64"),
        ("arm64", set(), "cpu-aarch64"),
    ],
)
def test_cpu_tiers(machine: str, flags: set[str], tier: str) -> None:
    assert cpu_tier(machine, flags) == tier


def test_slugs() -> None:
    assert slug("NVIDIA GeForce RTX 4090") == "nvidia-geforce-rtx-4090"
    assert slug("  ") == "unknown"
    assert len(slug("x" * 100)) == MAX_TIER


def test_this_machine_has_a_cpu() -> None:
    device = detect("cpu")
    assert device.kind == "cpu"
    assert re.fullmatch(r"cpu-[a-z0-9-]+", device.tier)
    assert "python" in device.software
    assert detect("cpu") is device


def test_an_unknown_device() -> None:
    with pytest.raises(UserError, match="expected one of cpu, cuda, mps"):
        detect("tpu")
