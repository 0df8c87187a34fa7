"""What a JavaScript peer and two of ours say to each other in tests/interop/test_js.py, and with which versions.

    python -m tests.interop.transcript > tests/interop/transcript.txt
"""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
import trio

from tests.interop import test_js


def versions() -> str:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    ours = [f"{name} {version(name)}" for name in ("waggledance", "libp2p", "trio")]
    python = sys.version.split()[0]
    return f"Python {python}: {', '.join(ours)}\nNode.js {node}: {test_js.packages()}"


def main() -> None:
    print(versions())
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        test_js.install(folder).check_returncode()
        print("\na javascript peer relays between two that know it alone", flush=True)
        trio.run(test_js.test_a_javascript_peer_relays_between_two_that_know_it_alone, folder)
        print("\nwhat no mesh brings comes by a name that both sides give it", flush=True)
        trio.run(test_js.test_what_no_mesh_brings_comes_by_a_name_that_both_sides_give_it, folder, patch)
    print("\nboth hold")


if __name__ == "__main__":
    main()
