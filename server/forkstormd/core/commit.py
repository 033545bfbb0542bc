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
    from forkstormd.core.heap import record_alloc, record_free
    from forkstormd.core.layout import *

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
    if state.overcommit != OVERCOMMIT_NEVER:
        if state.overcommit == OVERCOMMIT_GUESS and pages > state.commit_limit:
            return -ENOMEM
        return 0
    domain = domain_at(task.mem, state.domain)
    if pages > domain.limit:
        return -ENOMEM
    if charged_add(domain, cython.cast(i64, pages)) + pages > domain.limit:
        charged_add(domain, -cython.cast(i64, pages))
        return -ENOMEM
    task.charged += pages
    return 0


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
