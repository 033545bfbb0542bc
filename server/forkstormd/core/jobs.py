"""One duplication by several processes: how the parts of it find somebody who does them.

A fork whose parent has Header.parallel_vmas or more VMAs makes a job of its parts (parts.py), wakes
those who wait for one, and goes on with the parts itself until none is left:

    leader    job_begin   a free job, a reference on the source
              ...         cuts its parts
              job_run     open; wake; claim and do parts; close: wait for those that others have
              job_end     the references back
    helper    jobs_help   claim and do a part of any open job
              jobs_wait   asleep until the next (futex.py)

Nobody spins, and nobody is waited for who has not begun: what a helper that wakes up late would
have done, the leader has done by then.

A part is claimed by counting Job.claimed on, and then locked by its own robust mutex for as long as
it is worked on. The leader takes parts from the first on, helpers from the last: what either has
touched in one fork is in its cache for the next. Whoever closes a job locks each part once: one
that is not done then has lost its owner, who died, or has not been reached yet, and is done over. A
helper that wakes up with a job's old `word` finds that it has changed, under the lock, and leaves.
So the memory a job fills and the source it copies are given up only when nobody can be at work
there.

A helper that does not come to the end of a part within PATIENCE_NS (it was stopped, or is starved)
is not waited for any longer: the job is left as it is, with its extent and its reference on the
source, and the fork is made anew without help. What was left, and the job of a leader that died,
which shows by its robust lock, is given back by the next process that begins a job or comes to the
arena, once nobody is at work there any more (jobs_reap).

O(parts), and where something was left O(VMAs) of it. Errors: JOB_NONE where there is no free job,
JOB_LEFT where a helper was not waited for.
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.extents import extent_free, extent_use
    from forkstormd.core.futex import jobs_wake
    from forkstormd.core.heap import heap_populate
    from forkstormd.core.layout import *
    from forkstormd.core.mutex import *
    from forkstormd.core.owning import *
    from forkstormd.core.parts import *

    # Job numbers that are none.
    JOB_NONE = -1
    JOB_LEFT = -2


def jobs_wanted(task, strategy, vmas):
    """Whether so many VMAs are worth the hand-off, and the call lets others help."""
    wanted: u32 = load32(task.mem.header.parallel_vmas[strategy])
    return wanted != 0 and vmas >= wanted and not task.alone


def job_begin(task, kind, source, stamp):
    """A job on a space with this state, which the caller has a reference on, or the mutex of; its
    number, or JOB_NONE."""
    mem: MemP = task.mem
    job: JobP
    i: cython.int
    found: cython.int = JOB_NONE
    for i in range(JOBS):
        job = job_at(mem, i)
        # All that was left is looked at, so that it does not wait for its job's turn.
        if (found != JOB_NONE and job.held == 0) or mutex_try(job.lock) != 0:
            continue
        if _reap(task, job) and found == JOB_NONE:
            found = i
        else:
            mutex_release(job.lock)
    if found == JOB_NONE:
        return found
    job = job_at(mem, found)
    job.kind = kind
    job.stamp = stamp
    job.part_count = job.top_count = 0
    job.claimed = 0
    copy_state(job_source(job), source)
    tree_get(mem, source)
    snapshots_add(mem.header, 1)
    barrier()
    job.held = 1
    # What was left may have been of another space.
    extent_use(task, 0, 0)
    return found


def job_fill(task, index):
    """From here on the job is to give back the extent that this lane has just reserved, not the
    lane."""
    word: u64 = task.lane.extent_pending
    task.lane.extent_pending = 0
    barrier()
    job_at(task.mem, index).extent = word


def job_run(task, index):
    """Do all parts, with whoever comes to help from other processes; 0, or JOB_LEFT: then it must
    not be touched any more. task.processes tells how many they were."""
    mem: MemP = task.mem
    job: JobP = job_at(mem, index)
    part: PartP
    count: u32 = job.part_count
    i: u32
    processes: u32 = 1
    job_publish(job, job.word | 1)
    # This process's own helper is not asked: it has this call to do.
    jobs_wake(mem.header, min(mem.helpers_max, count - 1), ~mem.helper_bits)
    i = job_claim(job, count, False)
    while i < count:
        part = job_part(job, i)
        if mutex_try(part.lock) == 0:
            if part.done == 0:
                part_do(task, job, i)
            mutex_release(part.lock)
        i = job_claim(job, count, False)
    _close(job)
    for i in range(count):
        part = job_part(job, i)
        if mutex_try(part.lock) != 0 and mutex_wait(part.lock, now_ns() + PATIENCE_NS) != 0:
            job_leave(task, index)
            return JOB_LEFT
        if part.done == 0:
            part_do(task, job, i)
        mutex_release(part.lock)
        processes += _is_new(task, job, i)
    task.processes = processes
    return 0


def _is_new(task, job, index):
    """Whether a part was done by another lane than the leader's and those of the parts before."""
    lane: u32 = job_part(job, index).lane
    i: cython.int = cython.cast(cython.int, index) - 1
    if lane == task.lane_index:
        return False
    while i >= 0 and job_part(job, i).lane != lane:
        i -= 1
    return i < 0


def job_leave(task, index):
    """Leave a job as it is, to whoever finds that nobody is at work on it any more."""
    mutex_release(job_at(task.mem, index).lock)


def job_end(task, index):
    """Give back what the job holds, and the job; its extent is this lane's again."""
    job: JobP = job_at(task.mem, index)
    word: u64 = job.extent
    job.part_count = job.top_count = 0
    job.extent = 0
    barrier()
    if word != 0:
        task.lane.extent_pending = word
    _let_go(task, job)
    mutex_release(job.lock)


def _close(job):
    """Nobody begins with a part from here on. The next job has another word."""
    job_publish(job, (job.word | 1) + 1)


def _let_go(task, job):
    """Give up the reference on the source."""
    if job.held != 0:
        job.held = 0
        barrier()
        tree_put(task, job_source(job))
        snapshots_add(task.mem.header, -1)


def _reap(task, job):
    """Give back what was left in a job whose lock is held here: False as long as somebody may be
    at work on it."""
    i: cython.int
    word: u64
    if job.held == 0 and job.extent == 0:
        return True
    if job.word & 1:
        _close(job)
    # All that there are: somebody may hold one that an earlier job had.
    for i in range(JOB_PARTS):
        if mutex_try(job_part(job, i).lock) != 0:
            return False
        mutex_release(job_part(job, i).lock)
    if job.kind == PART_CLONE:
        parts_drop(task, job)
    job.part_count = 0
    word = job.extent
    job.extent = 0
    barrier()
    if word != 0:
        extent_free(task, cython.cast(u32, word >> 32))
    _let_go(task, job)
    return True


def jobs_reap(task):
    """Give back what dead leaders have left, as far as nobody is at work on it."""
    job: JobP
    i: cython.int
    for i in range(JOBS):
        job = job_at(task.mem, i)
        if mutex_try(job.lock) == 0:
            _reap(task, job)
            mutex_release(job.lock)


def jobs_help(task):
    """Do a part of any open job, if there is one: whether there was."""
    mem: MemP = task.mem
    job: JobP
    word: u64
    count: u32
    at: u32
    i: cython.int
    for i in range(JOBS):
        job = job_at(mem, i)
        word = load64(job.word)
        if word & 1:
            if mem.populated_blocks != load32(mem.header.claimed_blocks):
                heap_populate(task)
            count = load32(job.part_count)
            at = job_claim(job, count, True)
            if at < count:
                _help_with(task, job, at, word)
                return True
    return False


def _help_with(task, job, at, word):
    """Do a part that was claimed, unless the job is another one by now."""
    part: PartP = job_part(job, at)
    if mutex_try(part.lock) != 0:
        return
    # Under the lock: a job that is open now is not closed before this lock has been let go of.
    if load64(job.word) == word and part.done == 0:
        task.lane.in_op |= 1
        part_do(task, job, at)
        task.lane.in_op += 1
    mutex_release(part.lock)
