"""Page trees and shared objects without a space around them.

For tests and the benchmark alone; no operation uses it. Each call takes a lane of a manager, as an
operation does.
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import ref_add
    from forkstormd.core.layout import *
    from forkstormd.core.layout import State
    from forkstormd.core.objects import *
    from forkstormd.core.owning import retired_drop
    from forkstormd.core.pages import *
    from forkstormd.core.space import task_begin, task_end, task_stamp
    from forkstormd.core.verify import TreeCheck


class PageTree:
    """A page tree as a space of `task_size` bytes has one. Free it with drop()."""

    def __init__(self, mm: object, task_size: object) -> None:
        self.lanes = mm
        if cython.compiled:
            self.tree = cython.address(self.state)
        else:
            self.tree = self.state = State()
        self.tree.task_size = task_size

    def apply(self, changes: object) -> list:
        """Make changes in one transaction. A change is a tuple:

            ("set", addr, own, value)   ("zap", start, end)   ("move", from, to, length)
            ("free_tables", addr, end, floor, ceiling)   ("unmap", addr, end, floor, ceiling)
            ("copy", source, start, end, stop_after)

        Returns what each answered: 0 or a negative errno.
        """
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        pages: PagesP = task_pages(task, 0)
        try:
            task_begin(task, 0)
            pages_init(pages, task, self.tree, task_stamp(task))
            results = [_change(task, change) for change in changes]
            pages_finish(pages, self.tree)
            retired_drop(task)
        finally:
            task_end(task)
            self.lanes.idle.append(index)
        return results

    def look(self, addr: object) -> tuple:
        """(0, 0): not mapped. (1, 0): mapped. (2, value): the tree's own."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        pages: PagesP = task_pages(task, 0)
        pages_init(pages, task, self.tree, 0)
        found: cython.int = pages_look(pages, addr)
        self.lanes.idle.append(index)
        return found, pages.value

    def any(self, start: object, end: object) -> bool:
        """Whether a page of [start, end) is mapped."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        pages: PagesP = task_pages(task, 0)
        pages_init(pages, task, self.tree, 0)
        found: cython.bint = pages_any(pages, start, end)
        self.lanes.idle.append(index)
        return found

    def share(self) -> object:
        """A second tree with the same nodes."""
        other: PageTree = PageTree(self.lanes, self.tree.task_size)
        other.tree.page_root = self.tree.page_root
        other.tree.page_tables = self.tree.page_tables
        other.tree.touched_pages = self.tree.touched_pages
        if self.tree.page_root != 0:
            ref_add(self.lanes.arena.mem, self.tree.page_root, 1)
        return other

    def drop(self) -> None:
        """Free the tree, as the exit of its space does."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        task_begin(task, 0)
        if self.tree.page_root != 0:
            pages_drop(task, self.tree.page_root, pages_levels(self.tree.task_size))
        self.tree.page_root = 0
        self.tree.page_tables = self.tree.touched_pages = 0
        task_end(task)
        self.lanes.idle.append(index)

    def counts(self) -> tuple:
        """(page tables, mapped pages), as its state has them."""
        return self.tree.page_tables, self.tree.touched_pages

    def facts(self) -> tuple:
        """(violations, nodes, page tables, mapped pages), as a walk over it finds them."""
        walk: TreeCheck = TreeCheck(self.lanes)
        tables, pages = page_tree_facts(
            walk.mem, walk, self.tree.page_root, pages_levels(self.tree.task_size)
        )
        return walk.violations, walk.seen, tables, pages


def _change(task, change):
    """One change of PageTree.apply."""
    pages: PagesP = task_pages(task, 0)
    source: PagesP
    other: PageTree
    name = change[0]
    if name == "set":
        return pages_set(pages, change[1], change[2], change[3])
    if name == "zap":
        return pages_zap(pages, change[1], change[2])
    if name == "move":
        return pages_move(pages, change[1], change[2], change[3])
    if name == "free_tables":
        return pages_free_tables(pages, change[1], change[2], change[3], change[4])
    if name == "unmap":
        return pages_unmap(pages, change[1], change[2], change[3], change[4])
    if name == "copy":
        other = change[1]
        source = task_pages(task, 1)
        pages_init(source, task, other.tree, 0)
        return pages_copy(pages, source, change[2], change[3], change[4])
    raise ValueError(name)


class SharedObjects:
    """The shared objects of an arena, by their index."""

    def __init__(self, mm: object) -> None:
        self.lanes = mm

    def new(self) -> int:
        """A new object with one reference; 0 without memory."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        task_begin(task, 0)
        object: u32 = object_new(task, MAX_INDEX)
        task_end(task)
        self.lanes.idle.append(index)
        return object

    def of_file(self, file: object) -> int:
        """The object of an interned file; 0 without memory."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        vma: RecordP = task_found(task)
        task_begin(task, 0)
        vma.file = file
        vma.object = 0
        object: u32 = object_of(task, vma)
        task_end(task)
        self.lanes.idle.append(index)
        return object

    def get(self, object: object) -> None:
        """One reference more."""
        index: cython.int = self.lanes.begin(None, b"")
        object_get(self.lanes.task(index), object)
        self.lanes.idle.append(index)

    def put(self, object: object) -> None:
        """One reference less; the last one frees the object."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        held: u32 = object
        with cython.nogil:
            task_begin(task, 0)
            object_put(task, held)
            task_end(task)
        self.lanes.idle.append(index)

    def read(self, object: object, offset_bytes: object) -> int:
        """The value of the page at an offset."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        held: u32 = object
        offset: u64 = offset_bytes
        value: u64
        with cython.nogil:
            task_begin(task, 0)
            value = object_read(task, held, offset)
            task_end(task)
        self.lanes.idle.append(index)
        return value

    def write(self, object: object, offset_bytes: object, value: object) -> int:
        """Write the page at an offset; 0 or a negative errno."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        held: u32 = object
        offset: u64 = offset_bytes
        written: u64 = value
        result: cython.int
        with cython.nogil:
            task_begin(task, 0)
            result = object_write(task, held, offset, written)
            task_end(task)
        self.lanes.idle.append(index)
        return result

    def punch(self, object: object, start_bytes: object, end_bytes: object) -> None:
        """The pages of [start, end) read as zero."""
        index: cython.int = self.lanes.begin(None, b"")
        task: TaskP = self.lanes.task(index)
        task_begin(task, 0)
        object_punch(task, object, start_bytes, end_bytes)
        task_end(task)
        self.lanes.idle.append(index)

    def facts(self, object: object) -> tuple:
        """(violations, nodes, written pages), as a walk over an object finds them."""
        walk: TreeCheck = TreeCheck(self.lanes)
        pages = object_facts(walk.mem, walk, object)
        return walk.violations, walk.seen, pages

    def alive(self) -> tuple:
        """(page tables, shared objects) of the whole arena."""
        header: HeaderP = self.lanes.arena.mem.header
        return header.page_tables, header.objects
