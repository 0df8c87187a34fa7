"""Which hardware a node has, and its tier: the class of hardware within which metrics compare.

A tier follows from static facts alone (GPU model, else the CPU's instruction-set level), never from a
benchmark, which would put equal machines into different tiers.
https://gitlab.com/x86-psABIs/x86-64-ABI (levels x86-64-v1 to v4)
"""

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from protocol.errors import UserError

#: Importing torch with CUDA on a cold disk; a node starts with "cpu" rather than wait longer.
ASK_SECONDS = 120.0
MAX_TIER = 64
KINDS = ("cpu", "cuda", "mps")
#: Flags of /proc/cpuinfo that each level adds to the one before.
_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)
_ASK = """
import json, torch
found = {}
if torch.cuda.is_available():
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    alike = next((place for place, name in enumerate(names) if name != names[0]), len(names))
    found["cuda"], found["count"] = names[0], str(alike)
if torch.backends.mps.is_available():
    found["mps"] = "apple"
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Device:
    """``kind`` is cpu, cuda or mps; ``tier`` a slug of [a-z0-9-]; ``software`` the versions that matter;
    ``count`` is how many of them there are, GPUs of another model than the first left out: their tier is another.
    """

    kind: str
    name: str
    tier: str
    software: str
    count: int = 1


@lru_cache(4)
def detect(wanted: str | None = None) -> Device:
    """The best device there is, or the kind that is ``wanted``. Takes seconds the first time: use a thread.

    Raises UserError where the wanted one is not there.
    """
    if wanted is not None and wanted not in KINDS:
        raise UserError(f"no device {wanted!r}: expected one of {', '.join(KINDS)}")
    if wanted == "cpu":
        return cpu()
    found = ask_accelerators() if wanted or may_have_accelerator() else {}
    for kind in ("cuda", "mps"):
        if kind in found and wanted in (kind, None):
            name = found[kind] if kind == "cuda" else f"{found[kind]} {cpu_name()}"
            return Device(kind, name, slug(name), software(), int(found.get("count", 1)))
    if wanted is not None:
        raise UserError(f"no {wanted} device here that torch can use")
    return cpu()


def cpu() -> Device:
    return Device("cpu", cpu_name(), slug(cpu_tier(platform.machine(), _cpu_flags())), software())


def cpu_tier(machine: str, flags: Collection[str]) -> str:
    """ "cpu-x86-64-v3" by instruction-set level; "cpu-aarch64" and the like elsewhere."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())
    if machine != "x86_64":
        return f"cpu-{machine or 'unknown'}"
    level = "v1"
    for name, needed in _LEVELS:
        if not needed <= set(flags):
            break
        level = name
    return f"cpu-x86-64-{level}"


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_TIER].strip("-") or "unknown"


def may_have_accelerator() -> bool:
    """Whether it is worth the seconds that importing torch takes."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg"))


def ask_accelerators() -> dict[str, str]:
    """What torch finds, by kind, asked in a child process: the node itself never imports torch."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _ASK],
            capture_output=True,
            timeout=ASK_SECONDS,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    return {str(kind): str(name) for kind, name in found.items()}


def software() -> str:
    """Versions that can change a metric."""
    versions = [f"python {platform.python_version()}"]
    for package in ("torch", "numpy"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)


def cpu_name() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    match = re.search(r"^flags\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return set(match[1].split()) if match else set()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""
