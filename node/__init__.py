"""The composition: one node, and the command that starts it.

home        the folder where a node keeps everything
journal     what it must not forget (SQLite)
lineage     its git repository
records     ledger and journal in step
snapshot    the node at one moment, for people and machines
choose      what to do next, a pure function
apply       from peers' diffs to assets
think       the next edit, thought of while an experiment runs
loop        choose, claim, run, record, publish
keep        branch, notes and remembered peers
node        all of it together
"""
