"""Address spaces: the Python face of the core.

MemoryManager is one process's access to all spaces of an arena. Its methods may be called from
as many threads as it has lanes; each takes a lane from start to end, and runs without the GIL
but for the conversion of arguments and answers. It never waits for a space with the GIL held,
since the thread that has the space may be waiting for the GIL. Any process may work on any space
at any time: the space's own mutex, in the arena, orders them.

| call          | lock held        | cost                      | may fail with                     |
| create        | none             | O(VMAs)                   | ENOMEM (arena, spaces), EINVAL    |
| fork          | parent's         | see dup.py                | ENOMEM (arena, spaces), DEADLINE  |
| exit          | own, to commit   | O(VMAs), none when shared |                                   |
| map, unmap,   | own              | O(height) per VMA         | as mmap(2), munmap(2), mprotect(2)|
| protect,      |                  | changed, O(pages) where   | madvise(2), mremap(2); ENOMEM     |
| advise, remap |                  | pages move or go          | (arena)                           |
| set_break     | own              | O(height + VMAs removed)  | ENOMEM (arena)                    |
| touch         | own              | O(height)                 | EFAULT, ENOMEM (arena)            |
| find_vma      | own              | O(height)                 |                                   |
| find_gap      | own              | O(height)                 | ENOMEM (placement)                |
| snapshot      | own, for O(1)    | O(1), then O(VMAs read)   |                                   |
| apply         | own              | its operations, together  | its results tell; DEADLINE        |
| repeat_fork   | own, per fork    | count forks and exits     | as fork                           |

Every call on a space may fail with NO_SUCH_SPACE, and with DEADLINE when deadline_ns (absolute,
CLOCK_MONOTONIC, 0 for none) passes while it waits or works. Errors are CoreError and leave
everything as it was, except that protect, advise and remap stop half way where Linux does.
"""

from array import array
from errno import ENOMEM as ENOMEM_ERRNO

import cython

from forkstormd.core.errors import CoreError
from forkstormd.core.types import ApplyResult, FileInfo, ForkResult, OpResult, SpaceParams, VmaInfo

if not cython.compiled:
    from errno import EINVAL, ENOMEM

    from forkstormd.core.apply import mm_apply
    from forkstormd.core.atomics import *
    from forkstormd.core.commit import *
    from forkstormd.core.futex import jobs_wait, jobs_wake
    from forkstormd.core.heap import slot_alloc, slot_free
    from forkstormd.core.jobs import jobs_help
    from forkstormd.core.lanes import Lanes, work_of
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.operations import *
    from forkstormd.core.owning import *
    from forkstormd.core.snapshot import Snapshot, space_info
    from forkstormd.core.space import *
    from forkstormd.core.store import *
    from forkstormd.core.undo import *
    from forkstormd.core.vma import *


class MemoryManager(Lanes):
    """One process's access to the spaces of an arena, with a lane per thread that calls."""

    # -- spaces --

    def create(
        self,
        params: object = None,
        vmas: object = (),
        *,
        brk: object = 0,
        start_stack: object = 0,
        labels: object = b"",
        expires_ns: object = 0,
        request: object = None,
    ) -> object:
        """A new space with these VMAs (ascending, disjoint, page-aligned); value is its id.

        labels: at most 256 bytes; expires_ns: CLOCK_MONOTONIC, 0 for never. VMAs are stored as
        they are, whether or not neighbours could merge. O(VMAs).
        """
        params = params or SpaceParams()
        if len(labels) > LABEL_BYTES:
            raise CoreError(ENOMEM_ERRNO, "labels are too long", "labels", "label_bytes")
        result: cython.int
        index: cython.int = self.begin(request, labels)
        task: TaskP = self.task(index)
        try:
            task_begin(task, 0)
            task.locked_ns = now_ns()
            # The holder of the table's mutex may be waiting for the GIL.
            with cython.nogil:
                result = slot_alloc(task)
            if result != 0:
                task.limit = LIMIT_SPACES
                raise self.failed(index, result)
            slot: u32 = task.slot_index
            try:
                self.fill(index, params, vmas, brk, start_stack)
            except BaseException:
                slot_free(task, slot)
                raise
            value: u64 = space_publish(task, slot, expires_ns)
            task.done_ns = now_ns()
            return OpResult(value, task.done_ns - task.locked_ns, 0)
        finally:
            task_end(task)
            self.idle.append(index)

    def fill(
        self, index: cython.int, params: object, vmas: object, brk: object, start_stack: object
    ) -> None:
        """Build the state and the tree of a new space in task.next."""
        task: TaskP = self.task(index)
        state: StateP = task_next(task)
        mas: MasP = task_mas(task, 1)
        record: u32
        result: cython.int = 0
        before: u64 = 0
        start: u64
        end: u64
        flags: u64
        state.map_count = state.total_vm = state.data_vm = state.exec_vm = 0
        state.stack_vm = state.charged = 0
        state.task_size = params.task_size
        state.mmap_min_addr = params.mmap_min_addr
        state.mmap_base = params.mmap_base
        state.lsm_min_addr = params.lsm_min_addr
        state.max_map_count = params.max_map_count
        state.start_brk = params.start_brk
        state.brk = brk or params.start_brk
        state.start_stack = start_stack
        state.page_root = state.domain = 0
        state.extent = state.extent_blocks = 0
        state.page_tables = state.touched_pages = state.serial = 0
        state.stack_limit = params.stack_limit_bytes
        state.commit_limit = params.commit_limit_pages or task.mem.header.ram_pages
        state.linux_version = params.linux_version
        state.overcommit = params.overcommit
        state.privileged = params.privileged
        state.thp_alignment = params.thp_alignment
        state.protection_keys = params.protection_keys
        mas_init(mas, task, 0, 0)
        mas.stamp = task_stamp(task)
        mas.bulk = 1
        mas.deferred_counts = 1
        mas.keep_records = 1
        try:
            for spec in vmas:
                start = spec.start
                end = spec.end
                flags = spec.vm_flags
                if (
                    (start | end | spec.offset_bytes) & (PAGE_BYTES - 1)
                    or end <= start
                    or start < before
                ):
                    raise CoreError(
                        EINVAL, f"VMA {start:x}-{end:x} is not aligned or not in order", "vmas"
                    )
                if spec.file > task.mem.header.file_count:
                    raise CoreError(EINVAL, f"no file {spec.file}", "vmas")
                before = end
                record = vma_new(
                    task,
                    start,
                    end,
                    flags,
                    (spec.offset_bytes if spec.file else start) >> PAGE_SHIFT,
                    spec.file,
                )
                if record == 0:
                    result = -ENOMEM
                else:
                    result = mas_store(
                        mas, start, end - 1, record, vma_special(record_at(task.mem, record))
                    )
                    if result != 0:
                        record_release(task, record)
                if result != 0:
                    break
                vma_account(state, flags, (end - start) >> PAGE_SHIFT)
                state.map_count += 1
        except BaseException:
            # What is no VMA, or no number of 64 bits.
            mas.bulk = 0
            tree_abandon(mas, MAX_INDEX)
            raise
        if result == 0:
            result = mas_destroy(mas)
        if result != 0:
            mas.bulk = 0
            tree_abandon(mas, MAX_INDEX)
            task.limit = LIMIT_ARENA
            raise self.failed(index, result)
        if mas.height > 1:
            tree_seal(task.mem, mas.root, mas.height)
        if state.overcommit == OVERCOMMIT_NEVER:
            # What the space begins with counts, also where it is too much already.
            state.domain = domain_new(task, state.commit_limit)
            if state.domain == 0:
                mas.bulk = 0
                tree_abandon(mas, MAX_INDEX)
                task.limit = LIMIT_ARENA
                raise self.failed(index, -ENOMEM)
            charged_add(domain_at(task.mem, state.domain), cython.cast(i64, state.charged))
        state.root = mas.root
        state.height = mas.height

    def fork(
        self,
        mm_id: object,
        strategy: object,
        *,
        labels: object = b"",
        expires_ns: object = 0,
        with_phases: object = False,
        fault: object = None,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """Duplicate a space by a Strategy; the answer's child is published.

        fault: a ForkFault. What fails half way leaves everything as it was, and the CoreError's
        `fork` tells where that was.
        """
        if len(labels) > LABEL_BYTES:
            raise CoreError(ENOMEM_ERRNO, "labels are too long", "labels", "label_bytes")
        parent: u64 = mm_id
        how: cython.int = strategy
        expires: u64 = expires_ns
        deadline: u64 = deadline_ns
        phases: cython.bint = with_phases
        site: cython.int = 0
        ordinal: u64 = 0
        recovery: cython.int = RECOVER_MARKER
        result: cython.int
        if fault is not None:
            site, ordinal, recovery = fault
        index: cython.int = self.begin(request, labels)
        task: TaskP = self.task(index)
        try:
            with cython.nogil:
                task_begin(task, deadline)
                task.fault.site = site
                task.fault.ordinal = ordinal
                task.fault.recovery = recovery
                result = mm_fork(task, parent, how, expires, phases)
            if result != 0:
                raise self.failed(index, result, mm_id)
            return ForkResult(
                task.value,
                task.next.map_count,
                task.filled_ns - task.locked_ns - task.pages_ns,
                task.locked_ns - task.began_ns,
                work_of(task),
                task.prepared_ns - task.locked_ns if phases else 0,
                task.filled_ns - task.prepared_ns - task.pages_ns if phases else 0,
                task.sealed_ns - task.filled_ns if phases else 0,
                task.pages_ns,
                task.strategy,
                task.processes,
            )
        finally:
            task_end(task)
            self.idle.append(index)

    def exit(self, mm_id: object, *, deadline_ns: object = 0, request: object = None) -> object:
        """End a space; value is 1."""
        space: u64 = mm_id
        deadline: u64 = deadline_ns
        result: cython.int
        index: cython.int = self.begin(request, b"")
        task: TaskP = self.task(index)
        try:
            with cython.nogil:
                task_begin(task, deadline)
                result = space_exit(task, space)
                task.done_ns = now_ns()
            if result != 0:
                raise self.failed(index, result, mm_id)
            return OpResult(1, task.done_ns - task.locked_ns, task.locked_ns - task.began_ns)
        finally:
            task_end(task)
            self.idle.append(index)

    # -- calls on a space --

    def operate(
        self,
        operation: cython.int,
        mm_id: object,
        words: tuple,
        deadline_ns: object,
        request: object,
    ) -> object:
        """One call with its arguments in order, each of 64 bits, as OpResult."""
        space: u64 = mm_id
        deadline: u64 = deadline_ns
        i: cython.int
        result: cython.int
        index: cython.int = self.begin(request, b"")
        task: TaskP = self.task(index)
        try:
            for i in range(len(words)):
                task.words[i] = words[i]
            with cython.nogil:
                task_begin(task, deadline)
                result = mm_operate(task, operation, space)
            if result != 0:
                raise self.failed(index, result, mm_id)
            return OpResult(
                task.value, task.done_ns - task.locked_ns, task.locked_ns - task.began_ns
            )
        finally:
            task_end(task)
            self.idle.append(index)

    def map(
        self,
        mm_id: object,
        addr: object,
        length: object,
        prot: object,
        flags: object,
        *,
        file: object = 0,
        offset: object = 0,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """mmap(2) with raw Linux values; file is an id of intern_file. value is the address."""
        words = (addr, length, prot, flags, file, offset)
        return self.operate(OP_MAP, mm_id, words, deadline_ns, request)

    def unmap(
        self,
        mm_id: object,
        addr: object,
        length: object,
        *,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """munmap(2)."""
        return self.operate(OP_UNMAP, mm_id, (addr, length), deadline_ns, request)

    def protect(
        self,
        mm_id: object,
        addr: object,
        length: object,
        prot: object,
        *,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """mprotect(2)."""
        return self.operate(OP_PROTECT, mm_id, (addr, length, prot), deadline_ns, request)

    def advise(
        self,
        mm_id: object,
        addr: object,
        length: object,
        advice: object,
        *,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """madvise(2)."""
        return self.operate(OP_ADVISE, mm_id, (addr, length, advice), deadline_ns, request)

    def remap(
        self,
        mm_id: object,
        addr: object,
        old_length: object,
        new_length: object,
        flags: object,
        new_addr: object = 0,
        *,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """mremap(2); value is the address."""
        words = (addr, old_length, new_length, flags, new_addr)
        return self.operate(OP_REMAP, mm_id, words, deadline_ns, request)

    def set_break(
        self, mm_id: object, addr: object, *, deadline_ns: object = 0, request: object = None
    ) -> object:
        """brk(2); value is the resulting break, the old one where it cannot be moved."""
        return self.operate(OP_SET_BREAK, mm_id, (addr,), deadline_ns, request)

    def touch(
        self,
        mm_id: object,
        addr: object,
        access: object,
        page_value: object = 0,
        *,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """A load (access 0) from, or a store (1) of page_value to, the page at addr; value is
        what the page holds then. EFAULT where the process would get SIGSEGV."""
        return self.operate(OP_TOUCH, mm_id, (addr, access, page_value), deadline_ns, request)

    # -- looking --

    def find_vma(self, mm_id: object, addr: object, *, deadline_ns: object = 0) -> tuple:
        """The VMA that contains addr, else the next above it, or None; and the cost."""
        space: u64 = mm_id
        deadline: u64 = deadline_ns
        where: u64 = addr
        result: cython.int
        index: cython.int = self.begin(None, b"")
        task: TaskP = self.task(index)
        found: RecordP = task_found(task)
        try:
            with cython.nogil:
                task_begin(task, deadline)
                result = mm_find(task, space, where)
            if result != 0:
                raise self.failed(index, result, mm_id)
            cost = OpResult(
                task.value, task.done_ns - task.locked_ns, task.locked_ns - task.began_ns
            )
            if task.value == 0:
                return None, cost
            name = name_of(found, task.next.brk, task.next.start_brk, task.next.start_stack)
            return (
                VmaInfo(
                    found.start,
                    found.end,
                    found.flags,
                    offset_of(found),
                    found.file,
                    0 if found.file else name,
                ),
                cost,
            )
        finally:
            task_end(task)
            self.idle.append(index)

    def find_gap(
        self,
        mm_id: object,
        length: object,
        low: object,
        high: object,
        bottom_up: object = False,
        *,
        deadline_ns: object = 0,
    ) -> object:
        """The highest (or lowest) empty range of length bytes within [low, high); 0 stands for
        mmap_min_addr and mmap_base. value is where it begins."""
        space: u64 = mm_id
        deadline: u64 = deadline_ns
        nbytes: u64 = length
        first: u64 = low
        last: u64 = high
        upward: cython.bint = bottom_up
        result: cython.int
        index: cython.int = self.begin(None, b"")
        task: TaskP = self.task(index)
        mas: MasP = task_mas(task, 0)
        try:
            if nbytes == 0:
                raise CoreError(EINVAL, "length 0", "length_bytes")
            with cython.nogil:
                task_begin(task, deadline)
                result = space_lock(task, space)
                if result == 0:
                    space_begin(task)
                    if first == 0:
                        first = task.next.mmap_min_addr
                    if last == 0:
                        last = task.next.mmap_base
                    if last == 0:
                        result = -ENOMEM
                    elif upward:
                        result = mas_empty_area(mas, first, last - 1, nbytes)
                    else:
                        result = mas_empty_area_rev(mas, first, last - 1, nbytes)
                    if result != 0:
                        result = -ENOMEM
                        task.limit = LIMIT_PLACEMENT
                    space_unlock(task)
                    task.done_ns = now_ns()
            if result != 0:
                raise self.failed(index, result, mm_id)
            return OpResult(
                mas.index, task.done_ns - task.locked_ns, task.locked_ns - task.began_ns
            )
        finally:
            task_end(task)
            self.idle.append(index)

    def apply(
        self,
        mm_id: object,
        batch: object,
        *,
        deadline_ns: object = 0,
        request: object = None,
    ) -> object:
        """Perform a Batch of operations as one transaction: an ApplyResult. What an operation
        fails with is in it; NO_SUCH_SPACE and DEADLINE are raised, with nothing changed."""
        given: Batch = batch
        words: BatchP = given.bare()
        space: u64 = mm_id
        deadline: u64 = deadline_ns
        result: cython.int
        count: cython.int = words.count
        results = array("Q", bytes(8 * count))
        failed = array("I", bytes(4 * count))
        files = given.files
        index: cython.int
        task: TaskP
        if cython.compiled:
            words.results = u64_of(results)
            words.failed = u32_of(failed)
            words.files = u32_of(files)
        else:
            words.results = results
            words.failed = failed
            words.files = files
        index = self.begin(request, b"")
        task = self.task(index)
        try:
            with cython.nogil:
                task_begin(task, deadline)
                result = mm_apply(task, words, space)
            if result != 0:
                raise self.failed(index, result, mm_id)
            return ApplyResult(
                words.performed,
                results[: words.performed].tobytes(),
                failed[: words.failures],
                "arena" if words.is_full else "",
                task.done_ns - task.locked_ns,
                task.locked_ns - task.began_ns,
            )
        finally:
            task_end(task)
            self.idle.append(index)

    def repeat_fork(
        self,
        mm_id: object,
        strategy: object,
        count: object,
        *,
        alone: object = True,
        deadline_ns: object = 0,
    ) -> tuple:
        """Fork and exit `count` times in one core call: nanoseconds per fork (array 'Q'), of all
        exits together, the work of the last fork, and the strategy that was used for it in the end.
        alone: no other process helps, whatever its size. The children are never published."""
        space: u64 = mm_id
        deadline: u64 = deadline_ns
        how: cython.int = strategy
        forks: u64 = count
        by_itself: cython.bint = alone
        result: cython.int
        durations = array("Q", bytes(8 * forks))
        index: cython.int = self.begin(None, b"")
        task: TaskP = self.task(index)
        out: U64P
        out = u64_of(durations) if cython.compiled else durations
        try:
            with cython.nogil:
                task_begin(task, deadline)
                task.fault.site = 0
                task.fault.recovery = RECOVER_MARKER
                result = mm_repeat(task, space, how, forks, by_itself, out)
            if result != 0:
                raise self.failed(index, result, mm_id)
            return durations, task.exit_ns, work_of(task), task.strategy
        finally:
            task_end(task)
            self.idle.append(index)

    def info(self, mm_id: object) -> object:
        """SpaceInfo of a space."""
        space: u64 = mm_id
        result: cython.int
        index: cython.int = self.begin(None, b"")
        task: TaskP = self.task(index)
        try:
            with cython.nogil:
                task_begin(task, 0)
                result = mm_look(task, space, False)
            if result != 0:
                raise self.failed(index, result, mm_id)
            return space_info(task, mm_id)
        finally:
            task_end(task)
            self.idle.append(index)

    def list(self, after_slot: object = -1, limit: object = 1000) -> object:
        """SpaceInfo of the living spaces in slots above after_slot, ascending, at most limit."""
        found = []
        for mm_id in self.ids(after_slot):
            try:
                found.append(self.info(mm_id))
            except CoreError as error:
                if error.reason != "NO_SUCH_SPACE":
                    raise
            if len(found) >= limit:
                break
        return found

    def ids(self, after_slot: object = -1) -> object:
        """The ids of the living spaces in slots above after_slot, ascending; O(slots)."""
        mem: MemP = self.arena.mem
        index: u32
        word: u64
        found = []
        for index in range(after_slot + 1, load32(mem.header.slot_high)):
            word = load64(slot_at(mem, index).word)
            if word & 2:
                found.append(space_id(index, word))
        return found

    def expired(self, now_ns: object, limit: object = 1000) -> object:
        """The ids of spaces whose time is up, at most limit; O(slots)."""
        mem: MemP = self.arena.mem
        index: u32
        slot: SlotP
        word: u64
        now: u64 = now_ns
        found = []
        for index in range(load32(mem.header.slot_high)):
            slot = slot_at(mem, index)
            word = load64(slot.word)
            # An id of this very word: should the slot be another space's by now, it names nobody.
            if word & 2 and slot.expires_ns != 0 and slot.expires_ns <= now:
                found.append(space_id(index, word))
                if len(found) >= limit:
                    break
        return found

    def snapshot(self, mm_id: object, *, deadline_ns: object = 0) -> object:
        """All VMAs at one instant, to be read without the lock; a context manager."""
        snapshot: Snapshot = Snapshot()
        space: u64 = mm_id
        deadline: u64 = deadline_ns
        result: cython.int
        index: cython.int = self.begin(None, b"")
        task: TaskP = self.task(index)
        try:
            with cython.nogil:
                task_begin(task, deadline)
                result = mm_look(task, space, True)
            if result != 0:
                raise self.failed(index, result, mm_id)
            snapshot.lanes = self
            snapshot.root = task.next.root
            snapshot.height = task.next.height
            snapshot.page_root = task.next.page_root
            snapshot.domain = task.next.domain
            snapshot.extent = task.next.extent
            snapshot.extent_blocks = task.next.extent_blocks
            snapshot.task_size = task.next.task_size
            snapshot.brk = task.next.brk
            snapshot.start_brk = task.next.start_brk
            snapshot.start_stack = task.next.start_stack
            snapshot.position = 0
            snapshot.is_open = True
            snapshot.info = space_info(task, mm_id)
            return snapshot
        finally:
            task_end(task)
            self.idle.append(index)

    # -- duplications by several processes --

    def parallel_vmas(self, strategy: object) -> object:
        """From how many VMAs on forks by a strategy are shared out between processes (jobs.py); 0:
        they are not."""
        return self.arena.mem.header.parallel_vmas[strategy]

    def set_parallel_vmas(self, strategy: object, vmas: object) -> None:
        """Set that, for all processes of the arena. Raises CoreError EINVAL for a strategy that
        cannot be shared out."""
        if strategy not in (TREE_DUP, EXTENT_COPY):
            raise CoreError(EINVAL, "this strategy is sequential by nature", "strategy")
        self.arena.mem.header.parallel_vmas[strategy] = vmas

    def help(self, number: object = 0) -> None:
        """Help other processes with their forks, from a thread of its own, until stop_helping.

        number: this process's among those that help each other; from 32 on they share their wake-up
        with others, and do not wake those. Takes one lane. Sleeps without the GIL while there is
        nothing to do, or where another thread of this process is in a call.
        """
        index: cython.int = self.begin(None, b"")
        task: TaskP = self.task(index)
        mem: MemP = self.arena.mem
        bits: u32 = cython.cast(u32, 1) << (number & 31)
        seen: u32
        work_begin(task)
        task.fault.site = 0
        mem.helper_bits = bits
        with cython.nogil:
            while not self.stopping:
                seen = load32(mem.header.jobs_posted)
                while not self.calls_beside(index) and jobs_help(task):
                    pass
                if not self.stopping:
                    jobs_wait(mem.header, seen, bits)
        mem.helper_bits = 0
        self.idle.append(index)

    def calls_beside(self, index):
        """Whether another lane of this process runs a call."""
        i: cython.int
        for i in range(self.lane_count):
            if i != index and load32(self.tasks[i].lane.in_op) & 1:
                return True
        return False

    def stop_helping(self) -> None:
        """Let help() return soon, and not begin again."""
        self.stopping = True
        jobs_wake(self.arena.mem.header, 1 << 30, MAX_INDEX & LOW32)

    # -- files --

    def intern_file(
        self,
        path: object,
        dev_major: object = 0,
        dev_minor: object = 0,
        inode: object = 0,
        open_id: object = 0,
        access: object = 3,
        thp_aligned: object = True,
    ) -> object:
        """The id of a file, the same for equal arguments, in every process.

        access: bit 0 readable, bit 1 writable; thp_aligned: its file system asks for L5.
        Raises CoreError ENOMEM, limit "files".
        """
        return self.files.intern(
            FileInfo(path, dev_major, dev_minor, inode, open_id, access, thp_aligned)
        )

    def file_info(self, file: object) -> object:
        """The FileInfo behind an id."""
        return self.files.info(file)

    def audit(self) -> object:
        """Count everything alive from both sides; see verify.py."""
        from forkstormd.core.verify import audit

        return audit(self)

    def verify(self, mm_id: object) -> object:
        """Violated invariants of a space, in words; an empty list when it is sound."""
        from forkstormd.core.verify import verify

        return verify(self, mm_id)
