"""What the ledgers over SQL databases share: tables, changes, queries, migrations.

Knows SQLAlchemy Core and no database in particular; how connections are made, and who waits for whom, is the
engine's business.
"""
