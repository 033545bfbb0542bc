# The C side of layout.py: the same structs, field by field, and the accessors
# that turn an index into a pointer. layout.py documents them.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t

ctypedef uint8_t u8
ctypedef uint16_t u16
ctypedef uint32_t u32
ctypedef uint64_t u64
ctypedef int64_t i64

cdef extern from *:
    """
    #include <stdio.h>
    #include <stdlib.h>
    /* In the checked build a broken assumption stops the process where it
       breaks; in the release build it costs nothing. */
    #ifdef FORKSTORM_CHECKED
    #define fs_check(cond) do { if (!(cond)) { \
        fprintf(stderr, "forkstormd core: check failed: %s (%s:%d)\\n", #cond, __FILE__, __LINE__); \
        abort(); } } while (0)
    #else
    #define fs_check(cond) do { (void)sizeof(cond); } while (0)
    #endif
    #define FS_MAX_INDEX 0xffffffffffffffffULL
    #define FS_LOW32 0xffffffffULL
    #ifdef FORKSTORM_CHECKED
    #define FS_IS_CHECKED 1
    #else
    #define FS_IS_CHECKED 0
    #endif
    #define FS_NODE_BITS 0x1111111111111111ULL
    #define FS_GENERATION_MAX 0xfffffffffULL
    """
    void check "fs_check"(bint condition) noexcept nogil
    u64 MAX_INDEX "FS_MAX_INDEX"
    u64 LOW32 "FS_LOW32"
    int IS_CHECKED "FS_IS_CHECKED"
    u64 NODE_BITS "FS_NODE_BITS"
    u64 GENERATION_MAX "FS_GENERATION_MAX"

cdef enum:
    LAYOUT_VERSION = 4
    UNIT_BYTES = 64
    NODE_BYTES = 256
    NODE_UNITS = 4
    BLOCK_BYTES = 4096
    BLOCK_UNITS = 64
    CHUNK_BLOCKS = 512
    LEAF_SLOTS = 16
    INNER_SLOTS = 10
    LEAF_MIN_END = 6
    INNER_MIN_END = 4
    HEIGHT_MAX = 16
    SPLIT_MAX = 96
    PIECES_MAX = 6
    RETIRED_ROOM = 1024
    NODE_MAGAZINE = 1024
    RECORD_MAGAZINE = 2048
    SLOT_MAGAZINE = 16
    WARM_BLOCKS = 2048
    STORE_NODES = 128
    LABEL_BYTES = 256
    COUNTERS = 256
    KIND_NONE = 0
    KIND_NODES = 1
    KIND_RECORDS = 2
    KIND_EXTENT = 3
    DROP_SHELL = 0
    DROP_NODE = 1
    DROP_RECORD = 2
    DROP_TABLE = 3
    DROP_TABLE_SHELL = 4
    STRIP_PAGES = 16
    TABLE_SLOTS = 32
    PAGE_SHIFT = 12
    PAGE_BYTES = 4096
    SLOT_BITS = 20
    GENERATION_BITS = 36
    ANSWER_BYTES = 384
    PIECE_BYTES = 248
    DEDUPE_WAYS = 8
    DEDUPE_LOCKS = 64
    SLOT_STRIDE = 832
    TABLE_CHUNK_BYTES = 65536
    HEADER_BYTES = 8192
    SHARD_SHIFT = 56
    SLOT_MASK = 0xfffff
    LANE_STRIDE = 28992
    DEDUPE_STRIDE = 512
    FILE_STRIDE = 64
    SHARED_OBJECT = 0x40000000
    CALL_WORDS = 6
    EXTENT_UNITS = 16
    EXTENT_PARTS = 124
    EXTENT_CACHE = 16
    JOBS = 4
    JOB_PARTS = 123
    JOB_TOPS = 64
    JOB_STRIDE = 24256
    BULK_INSERT = 1
    TREE_DUP = 2
    EXTENT_COPY = 3
    SHARE = 4
    TREE_OWN = 0
    TREE_EXTENT = 1
    TREE_SHARED = 2

cdef struct Leaf:
    u64 stamp
    u8 end
    u8 gap_slot
    u16 special
    u32 reserve_next
    u64 pivot[15]
    u32 slot[16]
    u64 unused[7]

cdef struct Inner:
    u64 stamp
    u8 end
    u8 gap_slot
    u16 unused
    u32 reserve_next
    u64 pivot[9]
    u32 slot[10]
    u64 gap[10]
    u32 nodes
    u32 vmas
    u32 specials

cdef struct Record:
    u64 start
    u64 end
    u64 flags
    u64 pgoff
    u64 writer
    u64 anon
    u32 file
    u32 object
    u64 policy

cdef struct Extent:
    u32 blocks
    u32 nodes
    u32 records
    u32 objects
    u32 part_count
    u32 unused[3]
    u32 part_nodes[124]
    u32 part_leaves[124]

cdef struct Table:
    u64 stamp
    u32 present
    u32 moved
    u32 child[32]

cdef struct Strip:
    u64 stamp
    u16 present
    u16 own
    u32 unused
    u64 value[16]

cdef struct SharedObject:
    u64 references
    u64 lock[8]
    u64 tree
    u64 pages
    u64 charged
    u32 domain
    u32 unused

cdef struct Domain:
    u64 charged
    u64 limit
    u64 members
    u64 unused[5]

cdef struct State:
    u32 root
    u32 height
    u32 page_root
    u32 domain
    u64 page_tables
    u64 touched_pages
    u64 serial
    u64 map_count
    u64 total_vm
    u64 data_vm
    u64 exec_vm
    u64 stack_vm
    u64 charged
    u64 brk
    u64 start_brk
    u64 start_stack
    u64 task_size
    u64 mmap_min_addr
    u64 mmap_base
    u64 lsm_min_addr
    u64 max_map_count
    u64 stack_limit
    u64 commit_limit
    u32 linux_version
    u8 overcommit
    u8 privileged
    u8 thp_alignment
    u8 protection_keys
    u64 version
    u64 request_high
    u64 request_low
    u64 result
    u32 extent
    u32 extent_blocks

cdef struct Part:
    u64 lock[8]
    u64 low
    u64 high
    u64 slots_written
    u32 node
    u32 levels
    u32 leaf
    u32 inner
    u32 record
    u32 nodes
    u32 records
    u32 link
    u32 offset
    u32 result
    u32 done
    u32 lane
    u64 unused[7]

cdef struct Job:
    u64 lock[8]
    u64 word
    u64 claimed
    u64 stamp
    u64 extent
    u32 kind
    u32 part_count
    u32 top_count
    u32 held
    State source
    u32 top[64]
    u64 unused[7]
    Part part[123]

cdef struct Slot:
    u64 word
    u64 expires_ns
    u32 next_free
    u32 label_bytes
    u64 lock[8]
    State state[2]
    u8 labels[256]
    u8 unused[56]

cdef struct Lane:
    u64 owner_pid
    u64 owner_start
    u64 owner_token
    u64 stamps
    u32 node_count
    u32 record_count
    u32 slot_count
    u32 warm_node_count
    u32 warm_record_count
    u32 scan_node
    u32 scan_record
    u32 in_op
    u32 nodes[1024]
    u32 records[2048]
    u32 slots[16]
    u32 warm_nodes[2048]
    u32 warm_records[2048]
    u64 extents[16]
    u64 extent_pending
    u32 extent_hint
    u32 scan_extent
    u64 unused[6]

cdef struct FileEntry:
    u64 inode
    u64 open_id
    u64 path_offset
    u32 dev_major
    u32 dev_minor
    u32 access
    u32 path_bytes
    u32 object
    u32 thp_aligned
    u64 unused[2]

cdef struct DedupeEntry:
    u64 request_high
    u64 request_low
    u64 payload
    u64 state
    u64 lane_token
    u64 target
    u64 expected
    u64 order
    u64 result
    u32 lane
    u32 answer_bytes
    u32 more
    u32 more_nodes
    u64 unused[5]
    u8 answer[384]

cdef struct Header:
    u64 magic
    u32 layout_version
    u32 lane_max
    u64 capacity_bytes
    u64 instance_high
    u64 instance_low
    u64 boot_high
    u64 boot_low
    u32 space_max
    u32 slot_max
    u32 file_max
    u32 dedupe_max
    u64 lanes_at
    u64 table_at
    u64 dedupe_at
    u64 files_at
    u64 paths_at
    u64 paths_bytes
    u64 free_at
    u64 kind_at
    u64 refs_at
    u64 heap_at
    u32 first_block
    u32 block_max
    # Written while the server runs:
    u32 claimed_blocks
    u32 slot_high
    u32 free_slot
    u32 space_count
    u32 file_count
    u32 snapshots
    u64 paths_used
    u64 table_claimed
    u64 files_claimed
    u64 paths_claimed
    u64 serials
    u64 dedupe_order
    u64 ram_pages
    u64 page_tables
    u64 objects
    u64 shares
    u64 heap_lock[8]
    u64 table_lock[8]
    u64 files_lock[8]
    u64 dedupe_lock[64][8]
    u64 counter[256]
    u64 answer_nodes
    u64 answer_hand
    u64 jobs_at
    u32 jobs_posted
    u32 parallel_vmas[5]

cdef struct Piece:
    u32 next
    u32 unused
    u8 data[248]

cdef struct Mem:
    char *base
    Header *header
    u64 *free
    u8 *kind
    u32 *refs
    u32 populated_blocks
    u32 stream_blocks
    u32 helper_bits
    int helpers_max
    int fd

cdef struct WorkCount:
    u64 nodes_allocated
    u64 slots_written
    u64 levels_climbed
    u64 gap_updates
    u64 splits
    u64 records_copied
    u64 entries_erased

cdef struct Mas:
    Task *task
    Mem *mem
    u64 stamp
    u32 root
    int height
    int depth
    int bulk
    int deferred_counts
    int keep_records
    u64 index
    u64 last
    u32 node[16]
    int offset[16]
    u64 min[16]
    u64 max[16]
    u32 reserve
    u32 reserve_count
    int piece_count
    u64 piece_last[6]
    u32 piece_record[6]
    u32 piece_special[6]

cdef struct Copying:
    Mem *mem
    u64 stamp
    u32 leaf
    u32 inner
    u32 record
    int ahead
    int stream

cdef struct Pages:
    Task *task
    Mem *mem
    u64 stamp
    u32 root
    int levels
    u64 tables
    u64 pages
    u64 value

cdef struct Fault:
    u64 ordinal
    int site
    int recovery

cdef struct Failure:
    u64 ordinal
    u64 duplicated
    u64 undone
    u64 undo_ns
    int site
    int injected

cdef struct MapArgs:
    u64 addr
    u64 length
    u64 prot
    u64 flags
    u64 offset
    u32 file

cdef struct RemapArgs:
    u64 addr
    u64 old_length
    u64 new_length
    u64 flags
    u64 new_addr
    u64 delta

cdef struct Task:
    Mem *mem
    Lane *lane
    u32 lane_index
    Mas mas[3]
    WorkCount work
    int retired_count
    int retired_max
    u64 *retired
    Pages pages[2]
    Copying copying
    int big_count
    u64 big_last[96]
    u32 big_slot[96]
    u32 big_special[96]
    u64 big_gap[96]
    int grown_count
    u64 grown_last[16]
    u32 grown_node[16]
    u64 grown_gap[16]
    State next
    State source
    u64 words[6]
    MapArgs map
    RemapArgs remap
    i64 charged
    u64 charged_before
    Fault fault
    Failure failure
    u64 pages_ns
    u64 began_ns
    u64 locked_ns
    u64 prepared_ns
    u64 filled_ns
    u64 sealed_ns
    u64 done_ns
    u64 deadline_ns
    u64 exit_ns
    Record found
    u32 slot_index
    u32 field
    u32 limit
    int error
    u64 value
    u64 request_high
    u64 request_low
    u32 label_bytes
    u32 tree_nodes
    u32 extent
    u32 extent_units
    int tree
    int strategy
    u64 expires_ns
    u8 labels[256]
    u64 hidden
    u64 retired_before
    u32 emptied
    u32 processes
    bint alone

cdef struct BatchWords:
    u8 *kinds
    u64 *column[6]
    u32 stride[6]
    u64 nothing[1]
    u32 *files
    u64 *results
    u32 *failed
    u32 count
    u32 file_count
    bint skip
    u32 performed
    u32 failures
    bint is_full

ctypedef Leaf *LeafP
ctypedef Inner *InnerP
ctypedef Record *RecordP
ctypedef Extent *ExtentP
ctypedef Copying *CopyingP
ctypedef Part *PartP
ctypedef Job *JobP
ctypedef Table *TableP
ctypedef Strip *StripP
ctypedef SharedObject *SharedObjectP
ctypedef Domain *DomainP
ctypedef Pages *PagesP
ctypedef State *StateP
ctypedef Slot *SlotP
ctypedef Lane *LaneP
ctypedef FileEntry *FileEntryP
ctypedef DedupeEntry *DedupeEntryP
ctypedef Header *HeaderP
ctypedef Piece *PieceP
ctypedef Mem *MemP
ctypedef WorkCount *WorkCountP
ctypedef Mas *MasP
ctypedef Task *TaskP
ctypedef u64 *MutexP
ctypedef MapArgs *MapArgsP
ctypedef RemapArgs *RemapArgsP
ctypedef Fault *FaultP
ctypedef BatchWords *BatchP
ctypedef Failure *FailureP

cdef inline Leaf *leaf_at(Mem *mem, u32 node) noexcept nogil:
    check(node % NODE_UNITS == 0 and node >> 6 >= mem.header.first_block and node >> 6 < mem.header.claimed_blocks)
    return <Leaf *>(mem.base + <u64>node * UNIT_BYTES)

cdef inline Inner *inner_at(Mem *mem, u32 node) noexcept nogil:
    check(node % NODE_UNITS == 0 and node >> 6 >= mem.header.first_block and node >> 6 < mem.header.claimed_blocks)
    return <Inner *>(mem.base + <u64>node * UNIT_BYTES)

cdef inline Record *record_at(Mem *mem, u32 record) noexcept nogil:
    check(record >> 6 >= mem.header.first_block and record >> 6 < mem.header.claimed_blocks)
    return <Record *>(mem.base + <u64>record * UNIT_BYTES)

cdef inline Table *table_at(Mem *mem, u32 table) noexcept nogil:
    check(table % NODE_UNITS == 0 and table >> 6 >= mem.header.first_block and table >> 6 < mem.header.claimed_blocks)
    return <Table *>(mem.base + <u64>table * UNIT_BYTES)

cdef inline Strip *strip_at(Mem *mem, u32 strip) noexcept nogil:
    check(strip % NODE_UNITS == 0 and strip >> 6 >= mem.header.first_block and strip >> 6 < mem.header.claimed_blocks)
    return <Strip *>(mem.base + <u64>strip * UNIT_BYTES)

cdef inline SharedObject *object_at(Mem *mem, u32 object) noexcept nogil:
    check(object % NODE_UNITS == 0 and object >> 6 >= mem.header.first_block and object >> 6 < mem.header.claimed_blocks)
    return <SharedObject *>(mem.base + <u64>object * UNIT_BYTES)

cdef inline Domain *domain_at(Mem *mem, u32 domain) noexcept nogil:
    check(domain >> 6 >= mem.header.first_block and domain >> 6 < mem.header.claimed_blocks)
    return <Domain *>(mem.base + <u64>domain * UNIT_BYTES)

cdef inline Extent *extent_at(Mem *mem, u32 extent) noexcept nogil:
    check(extent % BLOCK_UNITS == 0 and extent >> 6 >= mem.header.first_block and extent >> 6 < mem.header.claimed_blocks)
    return <Extent *>(mem.base + <u64>extent * UNIT_BYTES)

cdef inline Piece *piece_at(Mem *mem, u32 piece) noexcept nogil:
    check(piece % NODE_UNITS == 0 and piece >> 6 >= mem.header.first_block and piece >> 6 < mem.header.claimed_blocks)
    return <Piece *>(mem.base + <u64>piece * UNIT_BYTES)

cdef inline Slot *slot_at(Mem *mem, u32 slot) noexcept nogil:
    check(slot < mem.header.slot_max)
    return <Slot *>(mem.base + mem.header.table_at + <u64>slot * SLOT_STRIDE)

cdef inline Lane *lane_at(Mem *mem, u32 lane) noexcept nogil:
    check(lane < mem.header.lane_max)
    return <Lane *>(mem.base + mem.header.lanes_at + <u64>lane * LANE_STRIDE)

cdef inline DedupeEntry *dedupe_at(Mem *mem, u32 entry) noexcept nogil:
    check(entry < mem.header.dedupe_max)
    return <DedupeEntry *>(mem.base + mem.header.dedupe_at + <u64>entry * DEDUPE_STRIDE)

cdef inline FileEntry *file_entry_at(Mem *mem, u32 file) noexcept nogil:
    check(file - 1 < mem.header.file_max)
    return <FileEntry *>(mem.base + mem.header.files_at + <u64>(file - 1) * FILE_STRIDE)

cdef inline Job *job_at(Mem *mem, u32 job) noexcept nogil:
    check(job < JOBS)
    return <Job *>(mem.base + mem.header.jobs_at + <u64>job * JOB_STRIDE)

cdef inline Part *job_part(Job *job, u32 part) noexcept nogil:
    check(part < JOB_PARTS)
    return &job.part[part]

cdef inline State *job_source(Job *job) noexcept nogil:
    return &job.source

cdef inline State *state_at(Slot *slot, int copy) noexcept nogil:
    return &slot.state[copy]

cdef inline Mas *task_mas(Task *task, int which) noexcept nogil:
    return &task.mas[which]

cdef inline WorkCount *task_work(Task *task) noexcept nogil:
    return &task.work

cdef inline Record *task_found(Task *task) noexcept nogil:
    return &task.found

cdef inline MapArgs *task_map(Task *task) noexcept nogil:
    return &task.map

cdef inline Pages *task_pages(Task *task, int which) noexcept nogil:
    return &task.pages[which]

cdef inline Copying *task_copying(Task *task) noexcept nogil:
    return &task.copying

cdef inline RemapArgs *task_remap(Task *task) noexcept nogil:
    return &task.remap

cdef inline Fault *task_fault(Task *task) noexcept nogil:
    return &task.fault

cdef inline Failure *task_failure(Task *task) noexcept nogil:
    return &task.failure

cdef inline State *task_source(Task *task) noexcept nogil:
    return &task.source

cdef inline State *task_next(Task *task) noexcept nogil:
    return &task.next
