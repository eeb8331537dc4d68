"""A long history, written straight into the tables: what some owners have sent over years."""

from sqlalchemy import Connection, text

from dropmill.engines.sql.search import BITS, CLIENT

OWNERS = 100
OF_LITTLE = "account:few"
"""Has sent one submission of the middle."""
FILES_EACH = 100  # of a submission
COMMON_HASH = "cafe" * 16  # of a tenth of all files


def write(connection: Connection, jobs: int) -> None:
    """Add so many jobs, each of a file of its own, nearly all of them done; in the transaction of the connection."""
    parameters = {"jobs": jobs, "submissions": jobs // FILES_EACH, "each": FILES_EACH, "owners": OWNERS}
    parameters |= {"middle": jobs // FILES_EACH // 2, "bits": 1 << BITS, "client": CLIENT}
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    submission = "(i - 1) / :each + 1"
    owner = f"CASE WHEN {{s}} = :middle THEN '{OF_LITTLE}' ELSE 'account:' || ({{s}} % :owners) END"
    of_job = owner.format(s=f"({submission})")
    at = "'2026-01-01T00:00:00.000Z'"
    # A submission a month, from the year 2000 on: SQL of both databases has no more arithmetic of times than that.
    month = "(2000 + i / 12) || CASE WHEN i % 12 < 9 THEN '-0' ELSE '-' END || (i % 12 + 1) || '-01T00:00:00.000Z'"
    state = "CASE WHEN i % 1000 = 0 THEN 'failed' WHEN i > :jobs - 10 THEN 'queued' ELSE 'succeeded' END"
    for statement in (
        f"INSERT INTO config_revisions (number, sha256, size, text, saved_at) VALUES (1, 'c', 0, '', {at})",
        numbers.format(":submissions")
        + "INSERT INTO submissions (seq, id, owner, is_open, opened_at, settled_at, outcome, ip, host, verified,"
        f" is_identified, is_announced, succeeded) SELECT i, 's' || i, {owner.format(s='i')}, false, {month},"
        f" CASE WHEN i = :submissions THEN NULL ELSE {at} END, CASE WHEN i = :submissions THEN NULL"
        f" WHEN (i * :each) % 1000 = 0 THEN 'failed' ELSE 'succeeded' END, '192.0.2.' || (i % 250),"
        " 'pc' || i || '.lab', false, true, false, :each FROM n",
        numbers.format(":jobs")
        + "INSERT INTO files (seq, id, submission_id, number, name, path, state, blob, sha256) SELECT i, 'f' || i,"
        f" 's' || ({submission}), (i - 1) % :each, 'report ' || i || '.txt', 'run/report ' || i || '.txt', 'stored',"
        f" 'b' || i, CASE WHEN i % 10 = 0 THEN '{COMMON_HASH}' ELSE 'abc' || i || 'd' END FROM n",
        numbers.format(":jobs")
        + "INSERT INTO jobs (seq, id, file_id, submission_id, owner, state, queued_at, queued_cursor, config_number,"
        f" attempt) SELECT i, 'j' || i, 'f' || i, 's' || ({submission}), {of_job}, {state}, {at}, i, 1, 1 FROM n",
        numbers.format(":jobs")
        + "INSERT INTO attempts (job_id, number, state, config_revision, started_at, host) SELECT 'j' || i, 1,"
        f" 'succeeded', 'c', {at}, 'here' FROM n",
        numbers.format(":jobs")
        + "INSERT INTO results (job_id, attempt, number, path, size, sha256, blob) SELECT 'j' || i, 1, 0, 'a', 1, 'c',"
        " 'r' || i FROM n",
        numbers.format(":jobs")
        + "INSERT INTO events (cursor, at, name, submission_id, file_id, job_id, owner, data) SELECT i,"
        f" {at}, 'job.settled', 's' || ({submission}), 'f' || i, 'j' || i, {of_job}, '{{}}' FROM n",
        "INSERT INTO owners (owner, submissions, succeeded) SELECT owner, count(*), count(*) * :each FROM submissions"
        " GROUP BY owner",
        "INSERT INTO search_texts (id, text) SELECT seq * :bits + :client, ip || ' ' || host FROM submissions",
        "INSERT INTO search_texts (id, file_id, text) SELECT s.seq * :bits + f.number, f.id, f.path FROM files f"
        " JOIN submissions s ON s.id = f.submission_id",
    ):
        used = {name: value for name, value in parameters.items() if f":{name}" in statement}
        connection.execute(text(statement), used)
