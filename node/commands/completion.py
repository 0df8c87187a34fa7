"""``waggle completion``: what a shell reads to complete commands and options."""

import shtab

from node.arguments import grammar
from node.config import Completion


def completion(command: Completion) -> int:
    print(shtab.complete(grammar(), command.shell))
    return 0
