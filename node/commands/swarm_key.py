"""``waggle swarm-key``: the key of a private swarm."""

import shlex

from gossip.private import new_key
from node.config import SwarmKeyNew


def swarm_key(command: SwarmKeyNew) -> int:
    """Raises UserError where the file is there already, or can't be written."""
    new_key(command.file)
    print(f"{command.file} is the key of a new private swarm. Copy it to each of its nodes, and to nobody else; then")
    print(f"waggle start --swarm-key {shlex.quote(str(command.file))}")
    return 0
