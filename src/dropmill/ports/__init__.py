"""The ports: what the capabilities need from the machinery below them.

    blobs       bytes                       directory             | S3
    ledger      state and events            SQLite                | Postgres
    bus         hints that something moved  asyncio               | Redis
    executor    runs attempts by job id     slots on this machine | Celery
    outputs     what attempts write         files                 | Redis and blobs

Every method is a coroutine unless it only touches memory. Cancelling a caller never cuts a commit in half: the ledger
makes or refuses a change, whether or not its caller still waits for it.
"""
