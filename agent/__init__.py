"""Who thinks of the next edit: each proposer is given what the swarm knows and answers with one edit.

- proposer.py      what a proposer is given and what it gives
- claude.py        a language model, by the Messages API
- prompt.py        what it is told, and the tools by which it answers
- digest.py        the ledger in words, with what peers wrote quoted
- edits.py         an edit as a model gives it, applied or refused with the reason
- budget.py        tokens that it may spend
- command.py       any program, which edits the asset in a folder of its own
- local_search.py  the keyless proposer: searches the tunables, warm-started from the swarm's records
- evidence.py      what is known before the next point is chosen: a bounded part of the swarm's trials
- surrogate.py     a model of the loss over the tunables
- space.py         a space of tunables: draw a point, step from one, tell two apart
- domains.py       where a tunable may go
- tunables.py      what an asset says may be tuned: read and written without running it
- declarations.py  the forms in which it says so
- essence.py       what of an asset runs: two of one essence are one experiment
- fallback.py      another proposer while one can't be had
"""
