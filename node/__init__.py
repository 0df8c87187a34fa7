"""The composition: one node, and the command that starts it.

cli         from the command line to a command; config says what was asked for, commands/ does it
main        the process: uvloop, trio on it as a guest, HTTP, signals
home        the folder where a node keeps everything
journal     what it must not forget (SQLite)
archive     what a home holds, read without disturbing its node
lineage     its git repository
records     ledger and journal in step
snapshot    the node at one moment, for people and machines: view, display, http, metrics, report and plot show it
meet        the first words with peers that the user named
workbench   sandbox, device and data: what runs candidates here
choose      what to do next, a pure function
bars        what may not be run or searched from now
apply       from peers' diffs to assets
think       the next edit, thought of while an experiment runs
underway    what the lanes are at
idle        lanes without an experiment, and why; kept_idle over restarts
outcome     from what came of a run to a result
loop        choose, claim, run, record, publish
keep        branch, notes and remembered peers
node        all of it together, from its parts
"""
