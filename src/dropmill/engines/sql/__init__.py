"""What the ledgers over SQL databases share: tables, changes, queries, migrations.

Written in SQLAlchemy Core. Two databases are supported, SQLite and Postgres; where they differ, these modules ask for
the dialect (partial indexes, collations, the operator of a search, how a new schema is made). Connections, locks and
the meaning of errors are the engines' business: `dropmill.engines.sqlite` and `dropmill.engines.postgres`.
"""
