"""`dropmill serve` for those who trace it: only its worker threads write to descriptors, and strace may attach.

The event loop is asyncio's: uvloop wakes it by write(2) from the threads, where an error ends the process.
"""

import contextlib
import ctypes
import sys

PR_SET_PTRACER = 0x59616D61  # prctl(2), for the Yama security module: any process of this user may attach
PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)

if __name__ == "__main__":
    vars(sys)["modules"]["uvloop"] = None  # importing it fails
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
    from dropmill.cli import main

    main()
