"""First answers that are longer than an entry of the table of requests.

What does not fit into the entry lies in a chain of nodes, which belongs to the entry: it is set
aside before the request runs, so that nothing can fail once it has happened, and freed with the
entry. A process that dies in between leaves the entry with its chain to whoever takes it over.

All long answers together may hold a sixteenth of the arena, lest they keep it from the spaces:
beyond that requests are forgotten before the table needs their entries (dedupe.py).
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import answer_nodes_add
    from forkstormd.core.heap import node_alloc, node_free
    from forkstormd.core.layout import *

    ANSWERS_SHARE = 16


def answer_pieces(size):
    """How many nodes an answer of so many bytes needs beside its entry."""
    return (size - ANSWER_BYTES + PIECE_BYTES - 1) // PIECE_BYTES if size > ANSWER_BYTES else 0


def answers_max(header):
    """How many nodes all long answers together may hold."""
    return header.capacity_bytes // ANSWERS_SHARE // NODE_BYTES


def chain_new(task, nodes):
    """A chain of so many nodes, at least one; 0 without memory."""
    head: u32 = 0
    node: u32
    _node: u32
    for _node in range(nodes):
        node = node_alloc(task)
        if node == 0:
            chain_free(task, head)
            return 0
        piece_at(task.mem, node).next = head
        head = node
        answer_nodes_add(task.mem.header, 1)
    return head


def chain_free(task, head):
    """Free a chain, which nobody can find any more; 0 is none."""
    following: u32
    while head != 0:
        following = piece_at(task.mem, head).next
        node_free(task, head)
        answer_nodes_add(task.mem.header, -1)
        head = following


def chain_cut(mem, head, keep):
    """End a chain after so many nodes, at least one; the rest of it, or 0."""
    piece: PieceP = piece_at(mem, head)
    rest: u32
    while keep > 1:
        piece = piece_at(mem, piece.next)
        keep -= 1
    rest = piece.next
    piece.next = 0
    return rest


def chain_write(mem, head, answer: bytes):
    """Store what of an answer does not fit into its entry; the chain is long enough."""
    piece: PieceP
    at: cython.Py_ssize_t = ANSWER_BYTES
    i: cython.Py_ssize_t
    size: cython.Py_ssize_t
    data: cython.p_char = answer
    while at < len(answer):
        piece = piece_at(mem, head)
        size = min(len(answer) - at, PIECE_BYTES)
        for i in range(size):
            piece.data[i] = data[at + i]
        at += size
        head = piece.next


def chain_read(mem, head, size):
    """So many bytes of a chain."""
    piece: PieceP
    parts = []
    while size > 0:
        piece = piece_at(mem, head)
        if cython.compiled:
            parts.append(piece_bytes(piece, min(size, PIECE_BYTES)))
        else:
            parts.append(bytes(piece.data[: min(size, PIECE_BYTES)]))
        size -= PIECE_BYTES
        head = piece.next
    return b"".join(parts)
