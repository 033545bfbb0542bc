"""The benchmark: figures of the core, of processes side by side, and of the RPCs.

Stands above everything else in the house and is not part of the distribution: `make bench` runs
it from the repository. docs/benchmarks.md says what each figure means.
"""
