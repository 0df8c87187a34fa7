"""What each ``waggle`` command does, from its arguments (node/config.py) to an exit status.

    start.py     a node: waggle start, waggle join
    look.py      what a node does and holds: waggle status, waggle log, waggle best
    report.py    results.tsv, progress.png and a summary
    run.py       one experiment by hand
    doctor.py    what of this machine a node can use
    program.py   new, check and data of research programs
"""
