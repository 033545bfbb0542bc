from libc.stdlib cimport malloc, free as c_free
from libc.string cimport memcpy, memset
from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.heap cimport heap_ensure, record_alloc
from forkstormd.core.maple cimport *
from forkstormd.core.copying cimport copy_compact, copy_walked
from forkstormd.core.extents cimport extent_alloc, extent_free
from forkstormd.core.owning cimport tree_compact
from forkstormd.core.owning cimport mas_retire
from forkstormd.core.store cimport mas_store, mas_store_range
from forkstormd.core.space cimport *
from forkstormd.core.lanes cimport Lanes
from forkstormd.core.vma cimport vma_special
