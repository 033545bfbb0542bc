"""`python -m forkstormd` is the command `forkstormd`."""

from forkstormd.cli import main

main()
