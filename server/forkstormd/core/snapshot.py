"""The VMAs of a space at one instant, read without its mutex."""

from array import array

import cython

from forkstormd.core.types import SpaceInfo, SpaceParams

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.operations import name_of, offset_of
    from forkstormd.core.owning import tree_put
    from forkstormd.core.space import *


class Snapshot:
    """The VMAs of a space at one instant. `info` tells the space's figures then.

    Holds one reference on the root, and one on its page tree's: writers copy what it holds,
    nobody waits for it.
    """

    def __enter__(self) -> object:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the reference; frees what only the snapshot still held."""
        index: cython.int
        task: TaskP
        if not self.is_open:
            return
        index = self.lanes.begin(None, b"")
        self.is_open = False
        task = self.lanes.task(index)
        with cython.nogil:
            task_begin(task, 0)
            task.next.root = self.root
            task.next.height = self.height
            task.next.page_root = self.page_root
            task.next.task_size = self.task_size
            task.next.extent = self.extent
            task.next.extent_blocks = self.extent_blocks
            tree_put(task, task_next(task))
            snapshots_add(self.lanes.arena.mem.header, -1)
        task_end(task)
        self.lanes.idle.append(index)

    def read(self, limit: object) -> tuple:
        """The next VMAs, at most limit, as five arrays: start, end, vm_flags, offset_bytes ('Q')
        and name ('I': 0 none, 1 [heap], 2 [stack], else a file's id + 2). Empty at the end."""
        count: cython.int = limit
        columns = [array("Q", bytes(8 * count)) for _ in range(4)]
        names = array("I", bytes(4 * count))
        start: cython.ulonglong[::1] = columns[0]
        end: cython.ulonglong[::1] = columns[1]
        flags: cython.ulonglong[::1] = columns[2]
        offset: cython.ulonglong[::1] = columns[3]
        name: cython.uint[::1] = names
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        mas: MasP = task_mas(task, 0)
        record: RecordP
        found: u32
        done: cython.int = 0
        try:
            with cython.nogil:
                task_begin(task, 0)
                mas_init(mas, task, self.root, self.height)
                found = mas_find(mas, self.position) if self.position != MAX_INDEX else 0
                while found != 0 and done < count:
                    record = record_at(task.mem, found)
                    start[done] = record.start
                    end[done] = record.end
                    flags[done] = record.flags
                    offset[done] = offset_of(record)
                    name[done] = name_of(record, self.brk, self.start_brk, self.start_stack)
                    done += 1
                    self.position = record.end
                    found = mas_next(mas)
                if found == 0:
                    self.position = MAX_INDEX
        finally:
            task_end(task)
            self.lanes.idle.append(index)
        if done < count:
            columns = [column[:done] for column in columns]
            names = names[:done]
        return (*columns, names)


def space_info(task, mm_id):
    """SpaceInfo of what operations.mm_look has copied."""
    state: StateP = task_next(task)
    return SpaceInfo(
        mm_id,
        bytes([task.labels[i] for i in range(task.label_bytes)]),
        state.map_count,
        state.version,
        SpaceParams(
            state.task_size,
            state.mmap_min_addr,
            state.mmap_base,
            state.start_brk,
            state.max_map_count,
            state.privileged != 0,
            state.thp_alignment != 0,
            state.overcommit,
            state.commit_limit,
            state.linux_version,
            state.stack_limit,
            state.lsm_min_addr,
            state.protection_keys != 0,
        ),
        state.brk,
        state.start_stack,
        state.total_vm,
        state.data_vm,
        state.exec_vm,
        state.stack_vm,
        state.charged,
        task.tree_nodes,
        state.height,
        task.expires_ns,
        state.page_tables,
        state.touched_pages,
        task.value,
    )
