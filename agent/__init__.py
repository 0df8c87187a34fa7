"""Who thinks of the next edit: each proposer is given what the swarm knows and answers with one edit.

- tunables.py      what an asset says may be tuned: read and written without running it
- proposer.py      what a proposer is given and what it gives
- local_search.py  the keyless proposer: searches the tunables, warm-started from the swarm's records
- evidence.py      what is known before the next point is chosen: a bounded part of the swarm's trials
- surrogate.py     a model of the loss over the tunables
- space.py         a space of tunables: draw a point, step from one, tell two apart
"""
