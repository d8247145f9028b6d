"""What a person sees."""

import io

from rich.console import Console

from mtvision.training.progress import Reporter

ROW = {
    "epoch": 1,
    "lr": 0.002,
    "seconds": 12.3,
    "train/loss": 1.5,
    "train/loss/seg/segmentation": 1.0,
    "val/loss": 1.25,
}
METRICS = {"val/seg/miou": 0.5, "val/det/map50": float("nan"), "per_class": {"seg/iou": {"cat": 0.5}}}


def written(terminal=False):
    stream = io.StringIO()
    return stream, Reporter(console=Console(file=stream, force_terminal=terminal, width=100, highlight=False))


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
            bar.losses({"loss": 1.5})
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
