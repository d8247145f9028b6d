"""Verbs that need no run: settings, data, parts of one's own."""

from pathlib import Path

from command_line import SETTINGS, ok, run

import mtvision as mtv


def test_train_takes_a_file_and_its_data_from_elsewhere(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("mtvision.training.run.train", lambda config, run_dir, progress: seen.update(locals()) or seen)
    mtv.Config(training={"lr": 0.5}).save(tmp_path / "run=1.yaml")
    ok("train", "system.epochs=3", tmp_path / "run=1.yaml", "--data-root", tmp_path, "-q")
    assert seen["config"] == mtv.Config(
        training={"lr": 0.5}, system={"epochs": 3}, data={"dataset_root": str(tmp_path)}
    )
    assert (seen["run_dir"], seen["progress"]) == (None, False)


def test_stats(tmp_path, monkeypatch):
    mtv.Config().override(SETTINGS).save(tmp_path / "run.yaml")
    told = {split: mtv.data.stats(mtv.build_dataset(tmp_path / "run.yaml", split)) for split in ("train", "val")}
    both = ok("stats", tmp_path / "run.yaml", "--split", "train", "--split", "val", "-q")
    assert both == f"train: {told['train']}\n\nval: {told['val']}\n\n"
    assert ok("stats", tmp_path / "run.yaml") == f"train: {told['train']}\n\n"
    monkeypatch.setattr("mtvision.visualize.statistics", lambda found, folder: {"stats": folder / "s.json"})
    saved = ok("stats", tmp_path / "run.yaml", "--split", "val", "--save", tmp_path / "s")
    assert saved == f"val: {told['val']}\n\nwritten: {tmp_path / 's' / 'val'}\n\n"


def test_parts_of_ones_own_are_imported_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parts_of_cli_test.py").write_text(
        "import mtvision as mtv\n"
        "@mtv.BOX_LOSSES.register('mine')\n"
        "def mine(*, sharpness: float = 2.0):\n"
        "    '''A loss of one's own.'''\n"
    )
    described = ok("--import", "parts_of_cli_test.py", "describe", "det_loss", "mine")
    assert described.startswith("mine: A loss of one's own.\n")
    missing = run("--import", "nothing.py", "list")
    assert missing.exit_code == 2
    assert "imports: 'nothing.py' cannot be imported" in missing.output
