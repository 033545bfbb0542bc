"""The core: maple trees in shared memory. Nothing here knows of RPCs.

    mm            address spaces: create, fork, exit, map, unmap, find, snapshot
    verify        every invariant of a space; audit of the arena
    yardstick     single steps and memcpy, for the benchmark
    dedupe        request ids and their first answers
    snapshot      a space's VMAs at one instant
    lanes         who runs a call
    operations    a call from lock to commit
    calls         mmap and munmap as Linux does them
    dup           the duplication strategies
    space         the address-space table: lock, commit, exit
    vma           VMA flags, merging, splitting, accounting
    store         writing to a maple tree; rebuild and owning are its parts
    maple         reading one: walk, next, prev, gaps
    files         interned file names
    heap          nodes, records and slots from the free map
    arena         the file
    mutex, atomics, layout    the ground

Ranges inside the core are inclusive, [index, last]; addresses of VMAs, as in the API
above, half-open, [start, end).
"""
