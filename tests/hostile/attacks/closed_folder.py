"""Files in a folder that cannot be looked into."""

import os


def train(run):
    os.mkdir("closed", 0o300)
    for number in range(100):
        with open(f"closed/{number}", "w") as file:
            file.write("x")
