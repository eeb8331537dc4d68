"""Run by the migration tool: everything on the connection `upgrade` was given."""

from alembic import context

from dropmill.engines.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a table in place
)
context.run_migrations()
