"""Turn a CSV file into an Excel workbook: the data, a summary, and a chart of the summary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd


def process(path: Path, config: dict[str, Any], results: Path, report: Callable[..., None]) -> None:
    """Write report.xlsx into the results folder."""
    key, value = config["group_by"], config["add_up"]
    report(0, 4, "reading")
    table = pd.read_csv(path)
    missing = {key, value} - set(table.columns)
    if missing:
        raise SystemExit(f"The file has no column {', '.join(sorted(missing))}; it has {', '.join(table.columns)}.")
    print(f"{len(table)} rows, {len(table.columns)} columns")
    report(1, 4, "adding up")
    summary = table.groupby(key)[value].agg(["count", "sum", "mean"]).sort_values("sum", ascending=False)
    print(summary.to_string())
    report(2, 4, "writing")
    with pd.ExcelWriter(results / "report.xlsx", engine="xlsxwriter") as workbook:
        summary.to_excel(workbook, sheet_name="Summary")
        table.to_excel(workbook, sheet_name="Data", index=False)
        report(3, 4, "drawing")
        chart = workbook.book.add_chart({"type": config["chart"]})
        last = len(summary)
        chart.add_series(
            {
                "categories": ["Summary", 1, 0, last, 0],
                "values": ["Summary", 1, 2, last, 2],
                "name": f"{value} by {key}",
            }
        )
        workbook.sheets["Summary"].insert_chart("F2", chart)
    report(4, 4, "ready")
