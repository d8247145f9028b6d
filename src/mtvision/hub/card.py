"""The card of a model: what the hub's search reads, as YAML, and a page for people."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mtvision.model import MultiTaskModel
from mtvision.tasks.pipeline_tags import pipeline_tag
from mtvision.training.checkpoint_description import Pretrained

_KEYS = ("base_model", "datasets", "language", "license", "license_link", "license_name", "model_name", "tags")
"""What a user may say in the card's metadata; all else is written from the model and its results."""


def model_card(model: MultiTaskModel, content: Pretrained, name: str, given: Mapping[str, Any]) -> ModelCard:
    """Return a model's card.

    Args:
        model: that the card is of.
        content: its config and numbers.
        name: of the repository or the folder.
        given: more metadata; it goes before that of the model.

    Raises:
        ValueError: if ``given`` has another key than those that a user may set.
    """
    if unknown := sorted(given.keys() - set(_KEYS)):
        raise ValueError(f"card: unknown key '{unknown[0]}'; known: {', '.join(_KEYS)}")
    return ModelCard(f"---\n{_metadata(model, content, name, given).to_yaml()}\n---\n\n{_page(model, content, name)}")


def _metadata(model: MultiTaskModel, content: Pretrained, name: str, given: Mapping[str, Any]) -> ModelCardData:
    dataset, backbone = (_name(content.config[section][key]) for section, key in _NAMED)
    kinds = {task: pipeline_tag(model.tasks[task]) for task in model.tasks}
    named_kinds = list(dict.fromkeys(kind for kind in kinds.values() if kind is not None))
    results = [
        EvalResult(
            task_type=kinds.get(metric.partition("/")[0]) or "other",
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=metric.partition("/")[2] or metric,
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in content.metrics.items()
        if math.isfinite(value)  # the hub reads numbers only
    ]
    metadata = {
        "library_name": "mtvision",
        "pipeline_tag": named_kinds[0] if named_kinds else None,
        "datasets": [dataset],
        "metrics": [result.metric_type for result in results] or None,
        "model_name": name,
        **given,
        "tags": ["mtvision", "multi-task-learning", *named_kinds, backbone, *_as_list(given.get("tags"))],
        "eval_results": results or None,
    }
    return ModelCardData(**metadata)


def _as_list(tags: str | Sequence[str] | None) -> list[str]:
    """Return tags as a list: one may stand by itself."""
    return [tags] if isinstance(tags, str) else list(tags or ())


_NAMED = (("data", "dataset"), ("model", "backbone"))


def _name(component: Any) -> str:
    """Return the name of a part as a config has it: a text, or a mapping with options."""
    return str(component["name"] if isinstance(component, Mapping) else component)


def _page(model: MultiTaskModel, content: Pretrained, name: str) -> str:
    config = yaml.safe_dump(content.config, sort_keys=False, allow_unicode=True)
    paragraphs = [
        f"# {name}",
        f"One network with the tasks {_listed(model.tasks)} on the backbone "
        f"`{_name(content.config['model']['backbone'])}`, made with mtvision {content.versions['mtvision']}.",
        "## Use",
        _fenced(_USE.format(name=name, tasks=", ".join(f'"{task}"' for task in model.tasks)), "python"),
        "## Results",
        *_results(content),
        *_classes(content),
        "## Config",
        _fenced(config, "yaml"),
    ]
    return "\n\n".join(paragraphs) + "\n"


_USE = """\
import mtvision as mtv

model = mtv.MultiTaskModel.from_pretrained("{name}")
prediction = model.predict("photo.jpg")[0]  # a dict with {tasks}
"""


def _results(content: Pretrained) -> list[str]:
    """Return the numbers of all classes, then those of each class, a table for each task."""
    if not content.metrics:
        return ["Nobody said what these weights reach."]
    dataset = _name(content.config["data"]["dataset"])
    tables = [_table(["metric", "value"], [[name, _number(value)] for name, value in content.metrics.items()])]
    for task in dict.fromkeys(name.partition("/")[0] for name in content.per_class):
        columns = {name: row for name, row in content.per_class.items() if name.partition("/")[0] == task}
        names = dict.fromkeys(name for values in columns.values() for name in values)
        rows = [[name, *(_number(values.get(name, math.nan)) for values in columns.values())] for name in names]
        tables.append(_table([f"class of {task}", *columns], rows))
    return [f"On the data set `{dataset}`; fractions in [0, 1].", *tables]


def _classes(content: Pretrained) -> list[str]:
    listed = {task: names for task, names in (content.classes or {}).items() if names}
    if not listed:
        return []
    return ["## Classes", "\n".join(f"- `{task}`: {', '.join(names)}" for task, names in listed.items())]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "none"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}```"
