"""The ledger in Postgres. No setting chooses it yet."""
