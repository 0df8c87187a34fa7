"""How it travels: between peers, by topic and by stream.

    transport         the interface: connections, topics, streams
    memory            an in-memory network behind it, seeded and on any clock
    libp2p_transport  libp2p behind it
    frames            frames over libp2p's streams
    connections       what can be told of a connection of libp2p
    endings           ending what is to end
    faults            whose fault an error of libp2p is
    overrides         mends of libp2p's private parts
    relay             putting peers through to each other
    reach             being called, and calling, through a relay
    circuit           what they say to each other
    punch             a direct way through two NATs
    dialing           addresses, and why a dial failed
    seen              a bounded memory of what was met
    wire              the frames that go over streams
    hello             who is there, and the program by its hash
    fetch             assets by commit
    gate              what may enter, and who is shut out
    sync              the exchange of missing records
    book              addresses heard, and when to dial them
    live              who is here and what they claim to run
    swarm             all of it for one swarm
"""
