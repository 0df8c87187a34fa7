"""How a candidate is run and scored.

program     program.md: parsed and checked; the built-in programs
fields      the table of program.md's fields
data        a program's data, fetched and split
device      which hardware there is, and its tier
sandbox     where foreign code runs: backends, tried before they are believed
spawn       one sandboxed child process, killed with all that it started
tree        CPU seconds and memory of a tree of processes
channel     frames to and from a child
job         what a run is asked for, and what comes of it
party       the children of a run, and what they say
supervisor  the clocks and limits of a run
lanes       several runs side by side, each where it was pinned
exam        what an examiner says of a candidate
experiment  one run of one candidate: budget, watchdog, examination
inside/     what runs in the sandbox: boot code, the runner's and the evaluator's side
programs/   the built-in programs
"""
