"""Folders in folders, deeper than any path can say, and some that are closed even to their owner."""

import os


def train(run):
    for _ in range(3000):
        os.mkdir("a-folder-in-a-folder")
        os.chdir("a-folder-in-a-folder")
    os.mkdir("closed", 0)
