"""The commit limit: how many pages a family of spaces may promise to itself.

A page of a VM_ACCOUNT area or of a shared anonymous object is charged (vm_enough_memory of Linux,
Documentation/mm/overcommit-accounting). By the space's overcommit mode, with the numbers of
vm.overcommit_memory:

    0  a call that asks for more pages at once than the limit is refused; nothing is summed up
    1  nothing is refused
    2  what all spaces of one family hold together may not exceed the limit

A family is a created space and all that was forked from it. In mode 2 it has a Domain in the
arena, changed by atomics alone: it counts the pages charged, and its members, which are spaces
and shared objects; the last one frees it.

A batch of calls is settled once: in between commit_between makes each call see what it would see
if the calls before it had committed.

A running call charges ahead of its commit and remembers in task.charged how much, of which what
it has given up on the way is a part (commit_more); after the commit commit_settle makes the domain
agree with the states, and commit_undo takes everything back when the call fails. A process that
dies in between leaves a charge too many, never one too few.

All O(1). Errors: -ENOMEM over the limit, or when the arena is full (domain_new: 0).
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.extents import in_extent
    from forkstormd.core.heap import record_alloc, record_free
    from forkstormd.core.layout import *
    from forkstormd.core.retire import retired_index, retired_kind, retired_levels

    OVERCOMMIT_GUESS = 0
    OVERCOMMIT_ALWAYS = 1
    OVERCOMMIT_NEVER = 2


def domain_new(task, limit):
    """A domain of one member with nothing charged; 0 when there is no memory."""
    index: u32 = record_alloc(task)
    domain: DomainP
    if index == 0:
        return 0
    domain = domain_at(task.mem, index)
    domain.charged = 0
    domain.limit = limit
    domain.members = 1
    return index


def domain_get(task, domain):
    """One member more; domain 0 is none."""
    if domain != 0:
        members_add(domain_at(task.mem, domain), 1)


def domain_put(task, domain):
    if domain != 0 and members_add(domain_at(task.mem, domain), -1) == 1:
        record_free(task, domain)


def domain_charged(task, domain):
    """Pages charged to a domain; 0 for none."""
    return load64(domain_at(task.mem, domain).charged) if domain != 0 else 0


def domain_uncharge(task, domain, pages):
    if domain != 0:
        charged_add(domain_at(task.mem, domain), -cython.cast(i64, pages))


def commit_free(state):
    """So many pages at once are never refused, and need not be charged."""
    if state.overcommit == OVERCOMMIT_NEVER:
        return 0
    return MAX_INDEX if state.overcommit == OVERCOMMIT_ALWAYS else state.commit_limit


def commit_charge(task, state, pages):
    """Charge pages to a space's family ahead of the commit; 0 or -ENOMEM."""
    domain: DomainP
    over: u64
    used: u64
    if state.overcommit != OVERCOMMIT_NEVER:
        if state.overcommit == OVERCOMMIT_GUESS and pages > state.commit_limit:
            return -ENOMEM
        return 0
    domain = domain_at(task.mem, state.domain)
    if pages > domain.limit:
        return -ENOMEM
    over = charged_add(domain, cython.cast(i64, pages)) + pages
    if over > domain.limit and over - domain.limit > task.hidden + _retired_pages(task, state):
        charged_add(domain, -cython.cast(i64, pages))
        return -ENOMEM
    used = min(task.hidden, pages)
    if used != 0:
        charged_add(domain, -cython.cast(i64, used))
        task.hidden -= used
    task.charged += pages
    return 0


def _retired_pages(task, state):
    """Pages charged to shared objects that go with what earlier calls of a batch have retired.
    O(what was retired), and again for each object with several holds."""
    return _all_gone(task, state.domain, 0)


def _all_gone(task, domain, object):
    """_gone of all that earlier calls have retired, and of the extent that one has emptied."""
    sum: u64 = 0
    i: cython.int
    first: u32
    record: u32
    kind: cython.int
    header: ExtentP
    for i in range(task.retired_before):
        kind = retired_kind(task, i)
        if kind == DROP_RECORD:
            sum += _gone(task, retired_index(task, i), 0, domain, object)
        elif kind == DROP_NODE:
            sum += _gone(task, retired_index(task, i), retired_levels(task, i), domain, object)
    if task.emptied != 0 and task.mem.refs[task.emptied] == 0:
        header = extent_at(task.mem, task.emptied)
        first = task.emptied + EXTENT_UNITS + header.nodes * NODE_UNITS
        if header.objects != 0:
            for record in range(first, first + header.records):
                sum += _let_go(task, record, domain, object)
    return sum


def _gone(task, index, levels, domain, object):
    """What goes with a retired subtree, or, with 0 levels, a record. With object 0 the pages of
    the domain that its objects are charged for; else the number of its holds on that one, of which
    task.big_last[0] is the least record."""
    mem: MemP = task.mem
    leaf: LeafP
    inner: InnerP
    offset: cython.int
    sum: u64 = 0
    if in_extent(task, index) or mem.refs[index] != 0:
        return 0  # Others have it too, or the extent.
    if levels == 0:
        return _let_go(task, index, domain, object)
    if levels == 1:
        leaf = leaf_at(mem, index)
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0:
                sum += _gone(task, leaf.slot[offset], 0, domain, object)
        return sum
    inner = inner_at(mem, index)
    for offset in range(inner.end + 1):
        if inner.slot[offset] != 0:
            sum += _gone(task, inner.slot[offset], levels - 1, domain, object)
    return sum


def _let_go(task, record, domain, object):
    """_gone of a record that nobody else has."""
    held: u32 = record_at(task.mem, record).object
    shared: SharedObjectP
    holds: u64
    if held == 0:
        return 0
    if object != 0:
        if held != object:
            return 0
        task.big_last[0] = min(task.big_last[0], record)
        return 1
    shared = object_at(task.mem, held)
    if shared.domain != domain:
        return 0
    if load64(shared.references) == 1:
        return shared.charged
    task.big_last[0] = MAX_INDEX
    holds = _all_gone(task, domain, held)
    # Counted once, with the least of its records.
    return (
        shared.charged if holds == load64(shared.references) and task.big_last[0] == record else 0
    )


def commit_between(task, state):
    """Between two calls of a batch: each finds the domain as if the one before had committed. What
    has been given back stays charged until the commit, but is hidden from the limit."""
    spare: i64 = cython.cast(i64, task.charged_before) + task.charged
    spare -= cython.cast(i64, state.charged)
    if spare == 0 or state.overcommit != OVERCOMMIT_NEVER:
        return
    if spare > 0:
        task.hidden += spare
    else:
        charged_add(domain_at(task.mem, state.domain), -spare)
    task.charged -= spare


def commit_reveal(task):
    """Before a batch is settled or undone: what was hidden counts again."""
    task.charged += task.hidden
    task.hidden = 0


def commit_more(task, state, pages):
    """commit_charge for a call on a space, which may use what it has unmapped before."""
    held: i64 = cython.cast(i64, task.charged_before) + task.charged
    spare: i64 = held - cython.cast(i64, state.charged)
    if state.overcommit != OVERCOMMIT_NEVER or spare <= 0:
        return commit_charge(task, state, pages)
    if pages <= cython.cast(u64, spare):
        return 0
    return commit_charge(task, state, pages - cython.cast(u64, spare))


def commit_uncharge(task, state, pages):
    """Take back what commit_charge charged in this call."""
    if state.overcommit == OVERCOMMIT_NEVER:
        domain_uncharge(task, state.domain, pages)
        task.charged -= pages


def commit_settle(task, before, after):
    """After a commit: the domain holds what the space holds, no more."""
    more: i64 = cython.cast(i64, after.charged) - cython.cast(i64, before.charged) - task.charged
    if more != 0 and after.overcommit == OVERCOMMIT_NEVER:
        charged_add(domain_at(task.mem, after.domain), more)
    task.charged = 0


def commit_undo(task, state):
    """After a failure: what the call charged goes back."""
    if task.charged != 0:
        domain_uncharge(task, state.domain, task.charged)
        task.charged = 0
