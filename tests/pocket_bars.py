"""Print the bars of a run's report card, and exit with 1 when one is missed: ``python tests/pocket_bars.py report.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def check(report: Path) -> int:
    """How many of the report's bars (aims don't count) are missed; a report without bars counts as one, since it shows nothing.

    Expects ``{"bars": [{"name": …, "value": …, "bar": …, "met": true}, …], …}``.
    """
    bars = json.loads(report.read_text(encoding="utf-8"))["bars"]
    for bar in bars:
        verdict = "met   " if bar["met"] else "not yet" if bar.get("aim") else "MISSED"
        print(f"{verdict}  {bar['name']}: {bar['value']} ({'aim' if bar.get('aim') else 'bar'}: {bar['bar']})")
    if not bars:
        print(f"{report} sets no bars.")
    return sum(not bar["met"] and not bar.get("aim") for bar in bars) if bars else 1


if __name__ == "__main__":
    sys.exit(1 if check(Path(sys.argv[1])) else 0)
