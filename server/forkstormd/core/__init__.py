"""The core: maple trees in shared memory. Nothing here knows of RPCs.

    mm       address spaces: create, fork, exit, map, unmap, find, snapshot
    dedupe   request ids and their first answers
    verify   every invariant of a space; audit of the arena
    dup      the duplication strategies
    vma      VMA flags, merging, splitting, accounting
    store    writing to a maple tree
    maple    reading one: walk, next, prev, gaps
    heap     nodes, records and slots from the free map
    arena    the file
    mutex, atomics, layout    the ground

Ranges inside the core are inclusive, [index, last]; addresses of VMAs, as in the API
above, half-open, [start, end).
"""
