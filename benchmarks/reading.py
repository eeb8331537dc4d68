"""What ruamel.yaml takes for a file: `python -m benchmarks.reading FILE`, one JSON object. Nothing is warm: that is it.

`parse_s` is `YAML(typ="safe", pure=True).load`, what a script needs at least; `round_trip_s` is what programs do that
edit by loading and dumping, and `lines_changed` is what that does to a file in which nothing was to be changed.
"""

import io
import json
import sys
import time
from collections import Counter
from pathlib import Path

from ruamel.yaml import YAML


def main() -> None:
    text = Path(sys.argv[1]).read_text()
    began = time.perf_counter()
    YAML(typ="safe", pure=True).load(text)
    parsed = time.perf_counter()
    yaml, out = YAML(), io.StringIO()
    yaml.preserve_quotes = True
    yaml.dump(yaml.load(text), out)
    ended = time.perf_counter()
    changed = (Counter(text.splitlines()) - Counter(out.getvalue().splitlines())).total()
    print(json.dumps({"parse_s": parsed - began, "round_trip_s": ended - parsed, "lines_changed": changed}))


if __name__ == "__main__":
    main()
