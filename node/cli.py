"""``waggle``: from the command line to a command, and from what went wrong to one line.

Exit status: 0 done; 2 the user must change something; 3 a candidate failed (``waggle run``); 70 a bug of ours;
130 interrupted. Commands are imported when they are asked for: ``waggle status`` must not wait for libp2p.
"""

import os
import sys
from collections.abc import Sequence

from node import arguments, config
from protocol.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Raises nothing but SystemExit (``--help``) and what is a bug of ours."""
    try:
        status = _dispatch(arguments.parse(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except UserError as error:
        print(f"waggle: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # as in ``waggle log | head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _dispatch(command: config.Command) -> int:
    match command:
        case config.Start() | config.Join():
            from node.commands.start import join, start

            return join(command) if isinstance(command, config.Join) else start(command)
        case config.Look():
            from node.commands.look import look

            return look(command)
        case config.Operate():
            from node.commands.operate import operate

            return operate(command)
        case config.Peers() | config.Identity():
            from node.commands.peers import identity, peers

            return peers(command) if isinstance(command, config.Peers) else identity(command)
        case config.Export():
            from node.commands.export import export

            return export(command)
        case config.Completion():
            from node.commands.completion import completion

            return completion(command)
        case config.Report():
            from node.commands.report import report

            return report(command)
        case config.Doctor():
            from node.commands.doctor import doctor

            return doctor(command)
        case config.Run():
            from node.commands.run import run

            return run(command)
        case config.SwarmKeyNew():
            from node.commands.swarm_key import swarm_key

            return swarm_key(command)
        case _:
            from node.commands.program import program

            return program(command)


if __name__ == "__main__":
    sys.exit(main())
