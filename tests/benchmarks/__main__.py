"""Every benchmark, one after the other: ``python -m tests.benchmarks`` writes data/results/bench.json."""

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lib import models, results
from lib.files import replacing
from tests.benchmarks import bench_attacks, bench_estimators, bench_game, bench_shapiq
from tests.benchmarks.common import Row

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "game (a, f)": bench_game.rows,
    "estimators (b, c)": bench_estimators.rows,
    "shapiq (d)": bench_shapiq.rows,
    "attacks (e)": bench_attacks.rows,
}
PEERS = ("shapiq", "torchattacks", "foolbox")


def processor() -> str:
    """The name of the processor, as Linux or else Python knows it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def rounded(row: Row) -> Row:
    """The same row, its numbers to four significant digits."""
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}


def table(rows: list[Row]) -> Table:
    """The rows to look at; a ratio below its target is red."""
    shown = Table("id", "device", "what", "peer", "ours", "theirs", "ratio", "target", title="ratio above 1: better")
    for row in rows:
        missed = row["target"] is not None and row["ratio"] < row["target"]
        cells = ["" if row[key] is None else str(row[key]) for key in ("ours", "theirs", "ratio", "target")]
        cells[2] = f"[red]{cells[2]}[/red]" if missed else cells[2]
        shown.add_row(*(str(row[key]) for key in ("id", "device", "what", "peer")), *cells)
    return shown


def main() -> None:
    """Run, show and write; a benchmark that fails leaves the file as it was."""
    console = Console(width=max(Console().width, 160))
    rows: list[Row] = []
    for name, benchmark in BENCHMARKS.items():
        started = time.monotonic()
        rows += map(rounded, benchmark())
        console.print(f"{name}: {time.monotonic() - started:.0f} s")
    rows.sort(key=lambda row: str(row["id"]))
    console.print(table(rows))
    about: dict[str, Any] = results.provenance(command="make bench", device=models.device())
    about["machine"] = f"{processor()}, {torch.get_num_threads()} threads"
    about["versions"] += "".join(f", {peer} {version(peer)}" for peer in PEERS)
    path = results.PUBLISHED / "bench.json"
    with replacing(path) as fresh:
        fresh.write_text(json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
