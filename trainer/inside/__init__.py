"""Code that runs inside sandboxes: the standard library, msgpack and numpy alone, and no import from outside.

    boot       first thing that runs: limits, confinement, supervision
    confine    rlimits, capabilities, Landlock
    seccomp    the filter of system calls
    frames     what goes over the sockets
    candidate  the runner's side: load, train, answer
    examiner   the evaluator's side: ask, score

Imports are relative, because in the sandbox this folder is a package named ``inside`` of its own.
"""
