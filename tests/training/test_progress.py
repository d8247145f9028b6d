"""What a person sees."""

import io
import json
import re

import pytest
from rich.console import Console
from small_runs import built, configured

import mtvision as mtv
from mtvision.training import progress
from mtvision.training.progress import Reporter, chosen_reporter

ROW = {
    "epoch": 1,
    "lr": 0.002,
    "seconds": 12.3,
    "train/loss": 1.5,
    "train/loss/seg/segmentation": 1.0,
    "val/loss": 1.25,
}
METRICS = {"val/seg/miou": 0.5, "val/det/map50": float("nan"), "per_class": {"seg/iou": {"cat": 0.5}}}


def written(terminal=False, width=100):
    stream = io.StringIO()
    return stream, Reporter(
        console=Console(file=stream, force_terminal=terminal, width=width, highlight=False, soft_wrap=True)
    )


def lines(stream):
    """Return what stood on the screen, without the terminal's codes."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()))


def test_a_row_an_epoch_with_the_names_above_the_first():
    stream, reporter = written()
    reporter.row({**ROW, **METRICS})
    reporter.row({**ROW, **METRICS, "epoch": 2})
    header, first, second = stream.getvalue().splitlines()
    assert header.split() == ["epoch", "lr", "seconds", "train/loss", "val/loss", "seg/miou", "det/map50"]
    assert first.split() == ["1", "2.00e-03", "12", "1.5000", "1.2500", "0.5000", "-"]
    assert second.split()[0] == "2"


def test_the_bar_shows_losses_and_the_time_left_on_a_terminal_only():
    for terminal in (True, False):
        stream, reporter = written(terminal)
        with reporter.bar("epoch 1/2", 4) as bar:
            assert bar.visible == terminal
            assert list(bar.over(range(4))) == [0, 1, 2, 3]
            bar.figures({"loss": 1.5}, 8)
        text = stream.getvalue()
        assert ("loss 1.500" in text) == terminal
        assert ("epoch 1/2" in text) == terminal
        assert ("0:00:00" in text) == terminal


def test_quiet_says_nothing(capsys):
    reporter = Reporter(enabled=False)
    reporter.row(ROW)
    reporter.say("x")
    reporter.table("t", {"seg/iou": {"cat": 0.5}})
    assert capsys.readouterr().out == ""


def test_table_has_a_line_a_class():
    stream, reporter = written()
    reporter.table("by class", {"seg/iou": {"cat": 0.5, "dog": float("nan")}, "det/ap50": {"cat": 0.25}})
    text = stream.getvalue()
    assert "0.5000" in text
    assert "0.2500" in text
    assert next(line for line in text.splitlines() if "dog" in line).count("-") >= 2


def test_the_bar_tells_how_many_images_a_second(monkeypatch):
    times = iter([10.0, 12.0, 12.5])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    shown = []
    bar = progress.Bar(type("Shown", (), {"update": lambda self, task, figures: shown.append(figures)})(), 0, True)
    for number in (8, 8, 10):
        bar.figures({"loss": 1.5, "seg/segmentation": 0.25}, number)
    speeds = [re.findall(r"(\d+) images/s", text) for text in shown]
    assert speeds == [[], ["4"], ["20"]]
    assert all(re.fullmatch(r"loss 1.500  (.* images/s  )?[\d.]+ GiB  seg/segmentation 0.250", text) for text in shown)


@pytest.mark.parametrize("width", [80, 160])
def test_a_run_shows_losses_speed_time_left_and_memory_also_on_a_narrow_terminal(width):
    cfg = configured(system__epochs=2)
    model, data = built(cfg)
    trainer = mtv.Trainer(model, cfg)
    stream, trainer.reporter = written(terminal=True, width=width)
    history = trainer.fit(data, mtv.build_dataset(cfg, "val"))
    figures = r"0:00:00 loss \d+\.\d{3}  \d+ images/s  \d+\.\d GiB  "
    parts = r"seg/segmentation \d+\.\d{3}  det/box \d+\.\d{3}  det/class \d+\.\d{3}"
    for epoch in (1, 2):
        bars = [line for line in lines(stream) if line.startswith(f"epoch {epoch}/2 ") and "3/3" in line]
        assert re.search(figures + (parts if width == 160 else ""), bars[-1]), bars[-1]
        assert all(len(bar.rstrip()) <= width for bar in bars)
    assert any(line.startswith("validate ") and "1/1 0:00:00" in line for line in lines(stream))
    assert any(line.split()[:1] == ["2"] and f"{history[1]['val/score']:.4f}" in line for line in lines(stream))


def test_json_is_a_line_an_epoch_and_nothing_else(capsys, tmp_path):
    cfg = configured(system__epochs=2, system__progress="json")
    result = mtv.train(cfg, tmp_path / ("a" * 100))
    output = capsys.readouterr()
    rows = [json.loads(line) for line in output.out.splitlines()]
    expected = [json.loads(line) for line in (result.run_dir / "history.jsonl").read_text().splitlines()]
    assert rows == [{key: value for key, value in row.items() if key != "per_class"} for row in expected]
    assert len(rows) == 2
    assert output.err == ""


@pytest.mark.parametrize("how", ["quiet", "auto"])
def test_quiet_prints_nothing_and_neither_does_progress_false(capsys, tmp_path, how):
    mtv.train(configured(system__progress=how), tmp_path, progress=how == "quiet")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


def test_only_the_main_process_says_something(monkeypatch, capsys):
    for rank in (0, 1):
        monkeypatch.setattr("mtvision.training.processes.rank", lambda rank=rank: rank)
        chosen_reporter("auto").say(f"process {rank}")
    assert capsys.readouterr().out == "process 0\n"
