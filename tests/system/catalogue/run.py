"""Plays a catalogue by hand, one line a case: `python -m tests.system.catalogue.run [FILE]`. FILE: by default our own.

Free-text expectations of an unknown file are shown beside what held after the case; they are for a person to judge.
"""

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from tests.system.catalogue.cases import OWN, Unplayable, cases
from tests.system.catalogue.run_case import PLAYS, Target


def main() -> int:
    """Play a file; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=OWN)
    parser.add_argument("--surface", action="append", default=[], choices=sorted(PLAYS), help="only these")
    parser.add_argument("--id", action="append", default=[], help="only these")
    chosen = parser.parse_args()
    found = [case for case in cases(path=chosen.file) if not chosen.id or case.id in chosen.id]
    played = [case for case in found if case.surface in (chosen.surface or PLAYS)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder) / "server")
        try:
            for case in played:
                try:
                    target.play(case)
                except Unplayable as error:
                    print(f"skip {case.id}  {case.what}  ({error})")
                except Exception as error:
                    bad += 1
                    print(f"BAD  {case.id}  {case.what}\n     {type(error).__name__}: {error}")
                    traceback.print_tb(error.__traceback__, limit=-2)
                else:
                    print(f"ok   {case.id}  {case.what}" + ("" if case.is_known else "  (what always holds)"))
        finally:
            target.end()
    others = sorted({case.surface for case in found if case.surface not in PLAYS})
    print(f"{len(played)} played, {bad} bad." + (f" Not played here: {', '.join(others)}." if others else ""))
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
