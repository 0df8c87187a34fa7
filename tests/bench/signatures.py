"""What opening a record costs: its signature and the rest, and what a forged one costs.

    python -m tests.bench.signatures [--records 5000]
"""

import argparse
import time

from protocol.errors import RemoteProtocolError
from protocol.identity import Identity, verify
from protocol.records import open_record, seal
from protocol.statements import Note
from tests.bench.record import machine

SWARM_ID = bytes(32)
#: As long as a result with its summary and diff often is.
TEXT = "why it should help, and what was seen " * 50


def main(records: int) -> None:
    author = Identity(bytes(32))
    key = author.public_key
    made = [seal(author, SWARM_ID, Note(1_800_000_000_000 + number, number, TEXT, ())) for number in range(records)]
    forged = [record.wire[:-1] + bytes([record.wire[-1] ^ 1]) for record in made]
    print(f"{machine()}; records of {len(made[0].wire)} bytes")
    for name, each in (
        ("opened whole", lambda number: open_record(made[number].wire, SWARM_ID)),
        ("  its signature", lambda number: verify(key, made[number].signed_bytes, made[number].signature)),
        ("forged, refused", lambda number: refused(forged[number])),
    ):
        begun = time.process_time()
        for number in range(records):
            each(number)
        spent = (time.process_time() - begun) / records
        print(f"{name:18} {spent * 1e6:6.0f} us, {1 / spent:7.0f} a second")


def refused(data: bytes) -> None:
    try:
        open_record(data, SWARM_ID)
    except RemoteProtocolError:
        return
    raise AssertionError("a forged record was opened")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=5000)
    main(**vars(parser.parse_args()))
