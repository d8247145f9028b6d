"""What a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mtvision.analysis.gallery import Gallery
from mtvision.study.analysis.findings import Findings
from mtvision.study.planning.factors import Factor


@dataclass(frozen=True)
class ReportContent:
    """All that `write_report` shows; what is None or empty is left out.

    Attributes:
        title: of the report.
        findings: of the analysis.
        base_config: that the factors change; plain values.
        factors: of the study.
        design: lines about the plan.
        seeds: of the runs.
        recommended_config: for `mtvision.build_model`.
        best_config: likewise, of the best configuration that was run.
        gallery: of the best run.
        confirmation: what the best few reached with fresh seeds and on a split kept for this: ``configuration, n,
            selected, fresh, held_out, low, high``, further columns are allowed.
        failures: name and error of each failed run.
        notes: what the study cannot tell.
    """

    title: str
    findings: Findings
    base_config: Mapping[str, Any] | None = None
    factors: Sequence[Factor] = ()
    design: Sequence[str] = ()
    seeds: Sequence[int] = ()
    recommended_config: Mapping[str, Any] | None = None
    best_config: Mapping[str, Any] | None = None
    gallery: Gallery | None = None
    confirmation: pd.DataFrame | None = None
    failures: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = field(default=())
