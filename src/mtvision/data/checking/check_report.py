"""What a check of a data set found: sentences that carry their kind, and facts that need no action."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from mtvision.data.checking.exclusion import merge_exclusions
from mtvision.data.checking.problem_kinds import error_kinds
from mtvision.errors import DataError, did_you_mean
from mtvision.target_files import replace_text
from mtvision.text_table import text_table

if TYPE_CHECKING:
    from mtvision.data.checking.duplicates import Signatures

Severity = Literal["error", "warning"]

NOT_COMPARED = "not-compared"
"""The kind of the note that some images of another set could not be read and so not be compared."""

_SHOWN = 3  # findings of each kind in the text


class Finding(str):
    """One sentence about a data set, which names the file or the item; a text that carries what it is about.

    Attributes:
        kind: a stable name, such as ``truncated-image``.
        severity: ``error``: the item cannot be used; ``warning``: it can, but something looks wrong.
        index: of the item, None for the data set as a whole.
        image_id: of the item, None where it is not known.
    """

    kind: str
    severity: Severity
    index: int | None  # type: ignore[assignment]  # in place of str.index, which nobody wants of a sentence
    image_id: str | None

    def __new__(
        cls,
        text: str,
        *,
        kind: str,
        severity: Severity = "error",
        index: int | None = None,
        image_id: str | None = None,
    ) -> "Finding":
        """Make a sentence with its fields."""
        finding = super().__new__(cls, text)
        finding.kind, finding.severity, finding.index, finding.image_id = kind, severity, index, image_id
        return finding

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {"kind": self.kind, "severity": self.severity, "index": self.index, "image_id": self.image_id}
        return _restored, (self.text, fields)

    @property
    def text(self) -> str:
        """The sentence as a plain text."""
        return str.__str__(self)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        fields = {"kind": self.kind, "severity": self.severity, "index": self.index, "image_id": self.image_id}
        return {**fields, "text": self.text}


def _restored(text: str, fields: dict[str, Any]) -> Finding:
    return Finding(text, **fields)


@dataclass(frozen=True, slots=True)
class Note:
    """A fact that needs no action, since it is taken care of: its kind, a sentence, how many images, some of them."""

    kind: str
    text: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        rest = self.count - len(self.examples)
        names = ", ".join(self.examples) + (f", and {rest:,} more" if rest > 0 and self.examples else "")
        return f"{self.text} ({names})" if names else self.text


class CheckReport(Sequence[Finding]):
    """The findings of a check, in the order of the items and then those on the whole set; empty if all is well.

    Args:
        findings: errors and warnings.
        notes: facts that need no action; they are no findings.
        num_items: of the data set.
        image_ids: of the items, where they are known.
        signatures: of its images, so that another check can compare its images with these.
    """

    def __init__(
        self,
        findings: Iterable[Finding],
        notes: Iterable[Note] = (),
        *,
        num_items: int = 0,
        image_ids: Iterable[str] = (),
        signatures: "Signatures | None" = None,
    ) -> None:
        self._findings = list(findings)
        self.notes = list(notes)
        self.num_items = num_items
        self.image_ids = frozenset(image_ids)
        self.signatures = signatures

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> list[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | list[Finding]:
        """Return one finding, or several."""
        return self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CheckReport):
            return self._findings == other._findings and self.notes == other.notes
        return self._findings == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of a list, which it equals

    def __repr__(self) -> str:
        return f"CheckReport({self._findings!r})"

    @property
    def errors(self) -> list[Finding]:
        """The findings because of which an item cannot be used."""
        return [finding for finding in self._findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings on what can be used but looks wrong."""
        return [finding for finding in self._findings if finding.severity == "warning"]

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind: errors first, the most frequent first."""
        errors, warnings = (Counter(finding.kind for finding in part) for part in (self.errors, self.warnings))
        return dict(errors.most_common()) | dict(warnings.most_common())

    def __str__(self) -> str:
        head = ", ".join(_summed(*part) for part in ((self.errors, "error"), (self.warnings, "warning")))
        blocks = [f"{_counted(self.num_items, 'image')}: {head}"]
        if self._findings:
            severities = {finding.kind: finding.severity for finding in self._findings}
            rows = [(severities[kind], kind, f"{count:,}") for kind, count in self.counts.items()]
            blocks.append(text_table([("severity", "kind", "findings"), *rows], left=2))
        blocks += [self._kind_text(kind) for kind in self.counts]
        for title, notes in (
            ("not compared:", [note for note in self.notes if note.kind == NOT_COMPARED]),
            ("notes (nothing to be done):", [note for note in self.notes if note.kind != NOT_COMPARED]),
        ):
            if notes:
                blocks.append("\n".join([title, *(f"  {note}" for note in notes)]))
        return "\n\n".join(blocks)

    def _kind_text(self, kind: str) -> str:
        lines = [finding.text for finding in self._findings if finding.kind == kind]
        more = [f"... and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
        return "\n".join([f"{kind}:", *(f"  {line}" for line in (*lines[:_SHOWN], *more))])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: ``num_items``, ``num_errors``, ``num_warnings``, ``counts``, ``findings``, ``notes``."""
        return {
            "num_items": self.num_items,
            "num_errors": len(self.errors),
            "num_warnings": len(self.warnings),
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self._findings],
            "notes": [{**asdict(note), "examples": list(note.examples)} for note in self.notes],
        }

    def save(self, path: str | Path) -> None:
        """Write `as_dict` as JSON.

        Raises:
            DataError: if the file cannot be written.
        """
        save_json(self.as_dict(), Path(path))

    def write_exclusions(self, path: str | Path, *, kinds: Iterable[str] = ()) -> int:
        """Write the ids of the images that cannot be used to a list that `exclude` reads; no image is touched.

        A list that is there already is kept, and what is new is added to it.

        Args:
            path: of the list.
            kinds: of warnings whose items are to be left out too, such as ``duplicate-across-splits``.

        Returns:
            How many ids are new in the list.

        Raises:
            DataError: for a kind that no check knows, if a list that is there cannot be read, or the file cannot be
                written.
        """
        return merge_exclusions(Path(path), self.excluded(kinds))

    def excluded(self, kinds: Iterable[str] = ()) -> list[Finding]:
        """Return the errors, and the warnings of some kinds: those whose items a list of exclusions has.

        Raises:
            DataError: for a kind that no check knows.
        """
        wanted = set(kinds)
        if problem := kinds_problem(wanted):
            raise DataError(problem)
        return [item for item in self._findings if item.severity == "error" or item.kind in wanted]


WARNING_KINDS = frozenset(
    {
        "absent-class",
        "box-without-mask",
        "duplicate-across-splits",
        "duplicate-box",
        "duplicate-image",
        "exif-ignored",
        "mask-without-box",
        "near-duplicate-across-splits",
        "near-duplicate-image",
        "not-annotated",
        "wrong-suffix",
    }
)
"""The kinds of findings on what can be used but looks wrong; all others are errors."""


def kinds_problem(kinds: Iterable[str]) -> str:
    """Return a sentence if one of the kinds is none that a check knows, empty if all are."""
    unknown = sorted(set(kinds).difference(WARNING_KINDS, error_kinds()))
    if not unknown:
        return ""
    known = ", ".join(sorted(WARNING_KINDS))
    return f"no kind of warning '{unknown[0]}'.{did_you_mean(unknown[0], WARNING_KINDS)} Known: {known}"


def save_json(content: Any, path: Path) -> None:
    """Write plain values as JSON, all of it or nothing; the file's folder is made where it is missing.

    Raises:
        DataError: if the file cannot be written.
    """
    try:
        replace_text(path, json.dumps(content, indent=2) + "\n")  # ASCII: a file's name may be no UTF-8
    except OSError as error:
        raise DataError(f"{path}: the report cannot be written ({error.strerror})") from None


def write_all_exclusions(reports: Mapping[str, CheckReport], path: Path, *, kinds: Iterable[str] = ()) -> str:
    """Write the exclusions of several splits to one list, and return a sentence on it.

    Raises:
        DataError: see `CheckReport.write_exclusions`.
    """
    chosen = tuple(kinds)
    added = sum(report.write_exclusions(path, kinds=chosen) for report in reports.values())
    text = f"{path}: {_counted(added, 'id')} added; leave these images out by data.exclude"
    shared = sorted(
        {
            finding.image_id
            for name, report in reports.items()
            for finding in report.excluded(chosen)
            for other in reports.keys() - {name}
            if finding.image_id is not None and finding.image_id in reports[other].image_ids
        }
    )
    return text + (
        f"; out of two splits, since both have the id: {len(shared):,}, such as '{shared[0]}'" if shared else ""
    )


def _summed(findings: Sequence[Finding], noun: str) -> str:
    """Return how many findings there are and in how many images."""
    images = {finding.index for finding in findings if finding.index is not None}
    return _counted(len(findings), noun) + (f" in {_counted(len(images), 'image')}" if images else "")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
