"""Memory without end, in one process."""


def train(run):
    print("begun", flush=True)
    held = []
    while True:
        held.append(bytearray(b"x" * (16 << 20)))
