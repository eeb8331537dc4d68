#!/usr/bin/env bash
# Counts lines, words and bytes, and writes a compressed copy. The environment holds the config's path.
set -euo pipefail
path=$1 results=$2
level=$(sed -n 's/^level: *\([0-9]*\).*/\1/p' "$DROPMILL_JOB_CONFIG")
echo "dropmill: progress 0/2 counting"
wc "$path" | awk '{print $1 " lines, " $2 " words, " $3 " bytes"}'
echo "dropmill: progress 1/2 compressing"
gzip "-${level:-6}" --stdout "$path" > "$results/packed.gz"
echo "dropmill: progress 2/2"
echo "packed $DROPMILL_JOB_FILE_NAME into $(stat --format=%s "$results/packed.gz") bytes"
