"""What is said: records, their encoding, and the rules that follow from a set of them.

Everything here is pure: no I/O, no clock, no randomness, no logging, no async.

    errors      whose fault it was
    codec       canonical, bounded msgpack
    identity    Ed25519 keys and peer ids
    commits     git object ids by hashing alone
    diffs       the git format for one file, strictly
    manifest    a program as bytes, and its hash, the swarm id
    records     envelope and statements
    rules       what program.md fixes for the ledger
    ledger      the set of records and what follows from it
    assignment  who replicates and confirms
    trust       what one node believes
"""
