"""Train on a folder in Pascal VOC's layout: masks only, boxes only or both.

    python examples/train_voc.py --data-root path/to/VOC2012 --run-dir runs/voc training.lr=0.001

Whatever follows the options overrides the config, by dotted key. The same command on an unfinished run goes on with it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import mtvision as mtv

CONFIG = Path(__file__).with_name("train_voc.yaml")


def main(data_root: Path, run_dir: Path | None, config: Path = CONFIG, overrides: Sequence[str] = ()) -> mtv.RunResult:
    cfg = mtv.Config.load(config, overrides=overrides).replace({"data.dataset_root": str(data_root)})
    result = mtv.train(cfg, run_dir=run_dir)
    for name, value in result.metrics.items():
        print(f"{name:<20} {value:.4f}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_intermixed_args()
    try:
        main(options.data_root, options.run_dir, options.config, options.overrides)
    except mtv.MtvisionError as error:
        raise SystemExit(f"error: {error}") from None
