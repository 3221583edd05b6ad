"""Run a program that ends when the process that started it ends. A script of its own: it is replaced by the program.

    python tethered.py PARENT_PID PROGRAM [ARGUMENT ...]

On Linux the kernel sends SIGTERM to the program when the *thread* that started this script is gone, which covers a
`kill -9` of the whole parent (prctl(2), PR_SET_PDEATHSIG; the setting survives execve). Elsewhere there is no such
thing, and the next start takes care of what was left behind (`embedded.py`).
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, *program = sys.argv[1:]
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  (only where it is needed: it is half of the start-up time)

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The parent may have died before the tie was made: then somebody else is our parent by now.
    if os.getppid() == int(parent):
        os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
