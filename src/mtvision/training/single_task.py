"""Whether several tasks in one network pay: the same run with all of them and with each alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mtvision import registries
from mtvision.config import Config, as_config
from mtvision.data.loading.loader import build_dataset, build_loader
from mtvision.errors import ConfigError
from mtvision.factory import build_model
from mtvision.heads.detection.base import DetectionRecipe
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.checkpoint import load_model
from mtvision.training.comparison import GainRow, RunRow, SingleTaskComparison
from mtvision.training.cost import measure_cost
from mtvision.training.device import resolve_device
from mtvision.training.evaluation import metric_directions
from mtvision.training.gain import relative_gain
from mtvision.training.gradient_similarity import Similarities, gradient_similarity
from mtvision.training.progress import Reporter
from mtvision.training.run import train
from mtvision.training.run_folder import RunResult

JOINT = "joint"
INITIALIZATION, BEST = "initialization", "best epoch"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison: ``task`` is None for the joint one; ``name`` is that of its folder."""

    name: str
    seed: int
    task: str | None
    config: Config


def compare_single_task(
    config: Config | Mapping[str, Any] | str | Path,
    run_dir: str | Path | None = None,
    *,
    seeds: Sequence[int] | None = None,
    progress: bool = True,
) -> SingleTaskComparison:
    """Train all tasks together and each alone, on the same budget and seeds, and tell what together gains and costs.

    Every run has the config's epochs, batches, data and optimization and is an ordinary run folder (``joint-seed0``,
    ``seg-seed0``, ...): the same call goes on with an unfinished comparison and only reads finished runs. The result is
    written to ``run_dir`` too, see `SingleTaskComparison.save`.

    Measured are Δm, the mean of the tasks' relative gains in their main metrics (Maninis et al. 2019, arXiv
    1904.08918; Vandenhende et al. 2021, arXiv 2004.13379), what each part costs (`measure_cost`) and whether the tasks'
    gradients agree (`gradient_similarity`), at initialization and in the joint runs' best epochs.

    Args:
        config: of the joint run, with at least two tasks.
        run_dir: folder of the runs; ``system.run_dir`` if None, else ``runs/compare-<date and time>``.
        seeds: of the runs, each once; None: ``system.seed`` alone, from which nothing is learned about the spread.
        progress: whether to show the runs and the result.

    Raises:
        ConfigError: for any problem of the config or the seeds, or if there are fewer than two tasks to compare.
        DataError: if the data cannot be read.
        CheckpointError: if a run's folder holds a run of another config; the differences are named.
    """
    cfg = as_config(config)
    plan = plan_runs(cfg, seeds)
    folder = Path(run_dir or cfg.system.run_dir or f"runs/compare-{datetime.now():%Y%m%d-%H%M%S}").expanduser()
    reporter = _reporter(cfg, progress)
    results = {}
    for number, run in enumerate(plan, 1):
        reporter.say(f"run {number} of {len(plan)}: {run.name}")
        results[run.name] = train(run.config, folder / run.name, progress=progress)
    comparison = _compare(plan, results)
    if processes.is_main():
        comparison.save(folder)
    reporter.say(f"{comparison}\n\neverything is in {folder}")
    return comparison


def _reporter(config: Config, progress: bool) -> Reporter:
    how = config.system.progress
    return Reporter(progress and how != "quiet" and processes.is_main(), as_json=how == "json")


def plan_runs(config: Config, seeds: Sequence[int] | None = None) -> list[PlannedRun]:
    """Return the runs of a comparison, for each seed the joint one first; nothing is trained.

    Args:
        config: of the joint run.
        seeds: None: ``system.seed`` alone.

    Raises:
        ConfigError: if there are fewer than two tasks, one has weight 0, no seed is given or one twice, or the batch
            size is left to each run.

    Example:
        >>> [run.name for run in plan_runs(Config(), seeds=[0, 1])]
        ['joint-seed0', 'seg-seed0', 'det-seed0', 'joint-seed1', 'seg-seed1', 'det-seed1']
    """
    chosen = [config.system.seed] if seeds is None else list(seeds)
    problems = [*_task_problems(config), *_seed_problems(chosen)]
    if config.training.batch_size == "auto":
        problems.append(
            "training.batch_size: 'auto' may choose another size for each run; give a number to compare them"
        )
    if problems:
        raise ConfigError(problems)
    configs: dict[str | None, Config] = {None: config}
    configs |= {task: single_task_config(config, task) for task in task_names(config)}
    return [
        PlannedRun(f"{task or JOINT}-seed{seed}", seed, task, of_task.replace({"system.seed": seed}))
        for seed in chosen
        for task, of_task in configs.items()
    ]


def task_names(config: Config) -> list[str]:
    """Return the names of the tasks of a config.

    Example:
        >>> task_names(Config(model={"detection_head": None}))
        ['seg']
    """
    heads = {"seg": config.model.segmentation_head, "det": config.model.detection_head}
    return [*(name for name, head in heads.items() if head is not None), *config.model.tasks]


def single_task_config(config: Config, task: str) -> Config:
    """Return the config with one of its tasks left, and without what belongs to the others.

    A neck that stands before detection alone goes with it; one that all tasks share stays. A monitored metric of
    another task becomes this task's ``score``, its main metric, and no balancer weighs what is one.

    Args:
        config: of several tasks.
        task: one of `task_names`.

    Example:
        >>> alone = single_task_config(Config(model={"neck": "fpn"}), "seg")
        >>> alone.model.detection_head, alone.model.neck, alone.training.loss_weights
        (None, None, {'seg': 1.0})
    """
    plain = config.dump()
    model, training = plain["model"], plain["training"]
    monitor = training["monitor"]
    monitored = monitor in ("score", "loss") or monitor.startswith(f"{task}/")
    values: dict[str, Any] = {
        "model.tasks": {name: choice for name, choice in model["tasks"].items() if name == task},
        "training.loss_weights": {name: w for name, w in training["loss_weights"].items() if name == task},
        "training.monitor": monitor if monitored else "score",
        "training.balancer": "fixed",
    }
    if task != "seg":
        values |= {"model.segmentation_head": None, "model.auxiliary_heads": []}
    if task != "det":
        values |= {"model.detection_head": None, "model.neck": _shared_neck(config)}
    return config.replace(values)


def _shared_neck(config: Config) -> Any:
    """Return the neck that all tasks share, also where it is the detection head that names it; None: there is none."""
    neck, head = config.model.neck, config.model.detection_head
    if not config.model.share_neck:
        return None
    if neck is not None or head is None:
        return neck
    return getattr(registries.DETECTION_HEADS.get(head.name), "recipe", DetectionRecipe()).neck


def _task_problems(config: Config) -> list[str]:
    tasks = task_names(config)
    if len(tasks) < 2:
        return [f"model: a comparison with single tasks needs at least two tasks, and there is only '{tasks[0]}'"]
    problems = [
        f"training.loss_weights.{name}: 0, so that the task learns nothing; leave the task out to compare the others"
        for name in tasks
        if config.training.loss_weights.get(name) == 0
    ]
    if JOINT in tasks:
        problems.append(f"model.tasks.{JOINT}: is the name of the joint run; choose another one for the task")
    return problems


def _seed_problems(seeds: Sequence[int]) -> list[str]:
    twice = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
    problems = [] if seeds else ["seeds: an empty list; give at least one seed"]
    return problems + [f"seeds: {seed} is given twice; a run counts once" for seed in twice]


def _compare(plan: Sequence[PlannedRun], results: Mapping[str, RunResult]) -> SingleTaskComparison:
    joint = [run for run in plan if run.task is None]
    models = {run.name: load_model(results[run.name].run_dir) for run in joint}
    first = models[joint[0].name]
    directions = metric_directions(first)
    metrics = {task: f"{task}/{first.task(task).main_metric}" for task in first.tasks}
    rows = [_gain_row(run, results, metric, directions[metric]) for metric in metrics.values() for run in joint]
    device = resolve_device(joint[0].config.system.device)
    return SingleTaskComparison(
        rows=tuple(rows),
        runs=tuple(_run_row(run, results[run.name]) for run in plan),
        cost=measure_cost(first.to(device)),
        gradient_similarity=_similarities(joint, models),
    )


def _gain_row(joint: PlannedRun, results: Mapping[str, RunResult], metric: str, higher_is_better: bool) -> GainRow:
    task = metric.partition("/")[0]
    together = results[joint.name].metrics[metric]
    alone = results[f"{task}-seed{joint.seed}"].metrics[metric]
    gain = relative_gain(together, alone, higher_is_better=higher_is_better)
    return GainRow(joint.seed, task, metric, higher_is_better, alone, together, gain)


def _run_row(run: PlannedRun, result: RunResult) -> RunRow:
    return RunRow(run.name, run.seed, run.task, len(result.history), result.best_epoch, result.seconds)


def _similarities(joint: Sequence[PlannedRun], models: Mapping[str, MultiTaskModel]) -> dict[str, Similarities]:
    """Return the similarities of the joint runs' models before and after training, those of all seeds together."""
    found: dict[str, list[Similarities]] = {INITIALIZATION: [], BEST: []}
    for run in joint:
        best = models[run.name]
        for state, model in ((INITIALIZATION, _initial_model(run.config, best)), (BEST, best)):
            model.to(resolve_device(run.config.system.device))
            batches = _first_epoch(run.config)
            found[state].append(gradient_similarity(model, batches, seed=run.seed))
    return {state: _joined(of_seeds) for state, of_seeds in found.items()}


def _initial_model(config: Config, trained: MultiTaskModel) -> MultiTaskModel:
    """Return the model as its training began: what it first took from the data is in the buffers of the trained one."""
    model = build_model(config, classes=trained.classes)
    weights = {name for name, _ in trained.named_parameters()}
    buffers = {name: value for name, value in trained.state_dict().items() if name not in weights}
    model.load_state_dict({**model.state_dict(), **buffers})
    return model


def _first_epoch(config: Config) -> Iterable[Any]:
    cfg = config.replace({"data.num_workers": 0})
    loader = build_loader(cfg, build_dataset(cfg, "train"), training=True)
    loader.set_epoch(0)
    return loader


def _joined(of_seeds: Sequence[Similarities]) -> Similarities:
    joined: Similarities = {}
    for similarities in of_seeds:
        for pair, groups in similarities.items():
            for group, values in groups.items():
                joined.setdefault(pair, {}).setdefault(group, []).extend(values)
    return joined
