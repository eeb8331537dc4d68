"""Executed by Alembic: runs all migrations on the connection that `upgrade` got."""

from alembic import context

from dropmill.engines.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a table in place
)
context.run_migrations()
