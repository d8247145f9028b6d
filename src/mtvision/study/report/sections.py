"""What a report says, in its order."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtvision.report.blocks import Block, Bullets, Code, Picture, Section, Text
from mtvision.report.numbers import counted, heading, interval_text, number_text
from mtvision.study.analysis.findings import Findings
from mtvision.study.planning.probe import duration
from mtvision.study.report.content import ReportContent
from mtvision.study.report.gallery import gallery_blocks
from mtvision.study.report.tables import Tables

_HOW_TO_READ = (
    "N counts distinct runs: a configuration with one seed counts once, however often it is in the table.",
    "An effect is the difference to the base level between runs that are equal otherwise (same seed, same other "
    "levels), or, where there are no such pairs, adjusted by a model in which effects add up.",
    "A 95 % interval says which effects the runs are consistent with. A difference is called shown only if the wider "
    "interval, which holds for all rows at once, leaves out 0; 'no difference shown' is not 'no difference'.",
    "The mean of a level by itself is no effect: where other factors are not balanced, they change along.",
    "Importance is a share of what the single factors explain of the variance, by a forest (fANOVA). Shares add up to "
    "1 even if nothing matters: look at the intervals.",
    "The best of many runs was lucky too. What to expect is what fresh seeds reach on a split that no choice was made "
    "on.",
)


def report_sections(content: ReportContent, plots: Mapping[str, Path], pictures: Mapping[str, Path]) -> list[Section]:
    """Return the sections that have something to say.

    Args:
        content: of the report.
        plots: files of `write_plots`, by name.
        pictures: files of the gallery's pictures, by image id.
    """
    tables = Tables(content.findings)
    clear = _aliasing(content.findings, tables)
    aliased = is_aliased(content.findings)
    sections = [
        *([clear] if aliased else []),
        Section("In short", _short(content)),
        Section("Flags", _flags(content.findings)),
        Section("How to read it", [Bullets(_HOW_TO_READ)]),
        Section("Recommended configuration", _recommended(content, tables)),
        Section("Best configuration", _best(content, tables)),
        Section("Run again", _confirmation(content, tables)),
        Section("Effects", _effects(content.findings, tables, plots)),
        Section(
            "Importance",
            _blocks(
                _picture(plots, "importance", "Shares in what the single factors explain of the variance"),
                tables.importance(),
            ),
        ),
        Section("Statistical summary", [tables.levels()]),
        Section("Interactions", _interactions(content.findings, tables, plots)),
        Section("Learning", _blocks(_picture(plots, "curves", _CURVES), tables.learning())),
        Section("Cost", _blocks(tables.cost())),
        Section("Trade-offs", _trade_offs(tables, plots)),
        Section("Best and worst predictions", gallery_blocks(content.gallery, pictures)),
        Section("Runs by factor", [tables.of_factor(name) for name in content.findings.table.factors]),
        Section("All runs", _blocks(_picture(plots, "parallel", _PARALLEL), tables.runs())),
        Section("Failed and pruned runs", _blocks(tables.failures(content.failures), tables.pruned())),
        Section("Design", _design(content)),
        *([] if aliased else [clear]),
        Section("Limits", [Bullets(content.notes)] if content.notes else []),
    ]
    return [section for section in sections if section.blocks]


_CODE_WIDTH = 100
_CURVES = "Learning curves by level: mean over the runs (their number in brackets), and one standard deviation"
_PARALLEL = "Each line is a run; lines through the same level are a little apart, the better the higher"


def is_aliased(findings: Findings) -> bool:
    """Tell whether the runs leave anything that no analysis can separate."""
    found = findings.aliasing
    return any((found.sets, found.factor_sets, found.nested, found.near, found.inestimable))


def _blocks(*blocks: Block | None) -> list[Block]:
    return [block for block in blocks if block is not None]


def _picture(plots: Mapping[str, Path], name: str, caption: str) -> Picture | None:
    return Picture(plots[name], caption) if name in plots else None


def _aliasing(findings: Findings, tables: Tables) -> Section:
    aliased = is_aliased(findings)
    sentences = findings.aliasing.sentences()
    title = "What these runs cannot tell apart" if aliased else "What these runs can tell apart"
    lines: list[Block] = [Bullets(sentences, important=aliased)] if sentences else []
    if not aliased:
        lines.insert(0, Text("No factors are aliased: if effects add up, each can be told from the others."))
    return Section(title, [*lines, *tables.aliasing()])


def _short(content: ReportContent) -> list[Block]:
    findings, table = content.findings, content.findings.table
    states = ", ".join(f"{number} {state}" for state, number in table.runs["state"].value_counts().items())
    shown = findings.effects[findings.effects["shown"].astype(bool)]
    lines = [
        f"{counted(len(table.runs), 'run')} ({states}; {len(table.finished)} distinct with a result), "
        f"{counted(len(table.factors), 'factor')}; {heading(table.objective)}, "
        f"{'more' if table.higher_is_better else 'less'} is better",
        f"Differences shown: {len(shown)} of {len(findings.effects)}",
        *map(str, shown["sentence"]),
        *([f"Best configuration: {_best_sentence(findings)}"] if findings.best else []),
        run_sentence(content),
        *_confirmed_sentences(content),
    ]
    return [Bullets(lines)]


def _confirmed_sentences(content: ReportContent) -> list[str]:
    """Tell what the configurations that were run again have reached."""
    if content.confirmation is None:
        return []
    return [
        f"{row['configuration']}, run again with {counted(int(row['n']), 'fresh seed')}: "
        f"{number_text(row['fresh'], 3)} on the same split, "
        f"{interval_text(row['held_out'], row['low'], row['high'])} on the split kept for this"
        for row in content.confirmation.to_dict("records")
        if row["n"]
    ]


def _is_confirmed(content: ReportContent) -> bool:
    """Tell whether the recommended configuration was run after the study."""
    table = content.confirmation
    return table is not None and bool((table["configuration"].str.contains("recommended") & (table["n"] > 0)).any())


def run_sentence(content: ReportContent) -> str:
    """Tell whether the recommended configuration was run, and what to expect of it."""
    findings = content.findings
    if not findings.recommended_runs or findings.expected is None:
        if _is_confirmed(content):
            return "The recommended configuration was not among the study's runs, but was run to confirm it"
        can_run = content.recommended_config is not None  # runs made elsewhere have no configs
        advice = "run it with study.confirm()" if can_run else "what it reaches is not known"
        return f"The recommended configuration was not run: {advice}"
    expected = findings.expected
    numbers = interval_text(float(expected["mean"]), float(expected["low"]), float(expected["high"]))
    found = (
        f"The recommended configuration was run ({counted(len(findings.recommended_runs), 'seed')}): "
        f"{heading(findings.table.objective)} {numbers}"
    )
    seconds = float(expected.get("seconds", math.nan))
    return found if math.isnan(seconds) else f"{found}; a run took {duration(seconds)}"


def _flags(findings: Findings) -> list[Block]:
    return [Bullets(findings.flags, important=True)] if findings.flags else []


def _recommended(content: ReportContent, tables: Tables) -> list[Block]:
    text = Text(run_sentence(content), important=not content.findings.recommended_runs)
    rule = Text(
        "It has the base level of each factor, unless another level is shown to be better: "
        "what is within the noise is no reason to change anything."
    )
    blocks: list[Block] = [text, rule, tables.configurations()]
    if content.recommended_config is not None:
        caption = "For mtv.build_model(RECOMMENDED_CONFIG) or mtv.train(RECOMMENDED_CONFIG)"
        blocks.append(Code(caption, config_text("RECOMMENDED_CONFIG", content.recommended_config)))
    return blocks


def config_text(name: str, config: Mapping[str, Any]) -> str:
    """Return a config as Python that can be pasted, with as many entries in a line as fit.

    Example:
        >>> print(config_text("CONFIG", {"model": {"activation": "gelu", "dropout_rate": 0.3}, "seed": 1}))
        CONFIG = {
            'model': {
                'activation': 'gelu', 'dropout_rate': 0.3,
            },
            'seed': 1,
        }
    """
    lines = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            lines += [f"    {key!r}: {{", *_packed([f"{own!r}: {item!r}," for own, item in value.items()]), "    },"]
        else:
            lines.append(f"    {key!r}: {value!r},")
    return "\n".join([f"{name} = {{", *lines, "}"])


def _packed(entries: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for entry in entries:
        if lines and len(lines[-1]) + 1 + len(entry) <= _CODE_WIDTH:
            lines[-1] += f" {entry}"
        else:
            lines.append(f"        {entry}")
    return lines


def _best(content: ReportContent, tables: Tables) -> list[Block]:
    if not content.findings.best:
        return []
    blocks = _blocks(Text(_best_sentence(content.findings)), tables.best_runs())
    if content.best_config is not None:
        blocks.append(Code("Its config", config_text("BEST_CONFIG", content.best_config), folded=True))
    return blocks


def _best_sentence(findings: Findings) -> str:
    best = findings.best
    numbers = interval_text(float(best["mean"]), float(best["low"]), float(best["high"]))
    runs = counted(int(best["n"]), "run")
    return str(best.get("sentence", f"{heading(findings.table.objective)} {numbers} over {runs}"))


def _confirmation(content: ReportContent, tables: Tables) -> list[Block]:
    if content.confirmation is None or content.confirmation.empty:
        return []
    text = (
        "The configurations were chosen by the number 'in the study', so that it is too good on average (the winner's "
        "curse). Fresh seeds and a split that no choice was made on do not have this fault; low and high are the 95 % "
        "interval over the seeds there."
    )
    return [Text(text), tables.confirmation(content.confirmation)]


def _effects(findings: Findings, tables: Tables, plots: Mapping[str, Path]) -> list[Block]:
    if findings.effects.empty:
        return []
    caption = "What each level changes against the base level, with 95 % intervals"
    sentences = [str(sentence) for sentence in findings.effects["sentence"]]
    return _blocks(_picture(plots, "effects", caption), tables.effects(), Bullets(sentences))


def _interactions(findings: Findings, tables: Tables, plots: Mapping[str, Path]) -> list[Block]:
    found = findings.interactions
    if found.empty:
        return [Text("The design does not tell of interactions: no two factors were crossed with all else equal.")]
    shown = int(found["shown"].astype(bool).sum())
    text = Text(f"Interactions shown: {shown} of {len(found)}. Parallel lines mean that the effects add up.")
    return _blocks(text, _picture(plots, "interactions", "Means by the levels of two factors"), tables.interactions())


def _trade_offs(tables: Tables, plots: Mapping[str, Path]) -> list[Block]:
    caption = (
        "Means of the configurations; on a ringed one no other is better in everything, the numbers are the table's"
    )
    return _blocks(_picture(plots, "pareto", caption), tables.pareto())


def _design(content: ReportContent) -> list[Block]:
    lines = list(content.design)
    lines += [f"{factor.name}: {', '.join(factor.labels)}" for factor in content.factors]
    if content.seeds:
        lines.append(f"Seeds: {_listed(content.seeds)}")
    blocks: list[Block] = [Bullets(lines)] if lines else []
    if content.base_config is not None:
        blocks.append(Code("Base config", config_text("BASE_CONFIG", content.base_config), folded=True))
    return blocks


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
