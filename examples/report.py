"""Look into what a trained run gets wrong, and write a report: one HTML file that needs nothing else.

python examples/report.py runs/person --data-root data/person --out runs/person/report
"""

import argparse
from pathlib import Path

import mtvision as mtv
from mtvision.analysis.analyze import analyze
from mtvision.analysis.run_report import write_run_report
from mtvision.training.history import History


def main(run: Path, data_root: Path | None = None, split: str = "val", out: Path | None = None) -> Path:
    root = [] if data_root is None else [f"data.dataset_root={data_root}"]
    config = mtv.Config.load(run / "config.yaml", overrides=root)
    data = mtv.build_dataset(config, split)
    analysis = analyze(run, data)
    print(analysis.result)
    title = f"{run.name}: what it gets wrong on {split}"
    history = History.read(run / "history.jsonl")
    files = write_run_report(analysis, data, out or run / "report", title=title, config=config, history=history)
    print(f"written: {files.html}")
    return files.html


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--data-root", type=Path, help="in place of the one that the run's config names")
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, help="folder of the report; by default RUN/report")
    options = parser.parse_args()
    try:
        main(options.run, options.data_root, options.split, options.out)
    except mtv.MtvisionError as error:
        raise SystemExit(f"error: {error}") from None
