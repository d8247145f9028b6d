"""The kind of each sentence with which readers and the contract of `Sample` say what is wrong."""

import re
from collections.abc import Iterable

OTHER = "other"
"""The kind of a sentence that the table does not know, such as one of a user's own data set."""

_KINDS = (
    ("missing-image", r"the image is missing"),
    ("truncated-image", r"the image is truncated"),
    ("unreadable-image", r"not an image that can be decoded"),
    ("image-size", r"the image is \d+ x \d+ pixels .* says"),
    ("missing-mask", r"the mask is missing"),
    ("unreadable-mask", r"the mask cannot be read"),
    ("mask-mode", r"expected a mask with (one|three) channel|expected a trimap"),
    ("mask-size", r"the mask is \d+ x \d+ pixels|the trimap is \("),
    ("mask-class", r"the mask has the class id"),
    ("missing-annotation", r"the annotation is missing|the label file is missing"),
    ("xml-entities", r"the XML has entities"),
    ("malformed-annotation", r"malformed XML|expected <annotation>|the label file cannot be read|expected 'class x y"),
    ("unknown-class", r"unknown class name|unknown category id|(the class|label) -?\d+ is outside 0 to"),
    ("invalid-flag", r"difficult>? must be 0 or 1|'iscrowd' must be 0 or 1"),
    ("malformed-box", r"has no <bndbox>|is not a number: '|'bbox' must be 4 numbers"),
    ("box-outside", r"the box .* (lies|reaches) outside"),
    ("invalid-box", r"the box \[.*\] is empty or outside the image"),
    ("empty-box", r"the box .* is empty"),
    ("invalid-polygon", r"\ba polygon must be|the polygon (has|reaches)|expected a polygon|'segmentation' must be"),
    ("invalid-run-lengths", r"the run lengths"),
    ("invalid-segments", r"the segment (at position|id)|no pixel has the segment"),
    ("unreadable-item", r"^cannot be read \(|^item \d+: cannot be read \(|^item \d+ cannot be read \("),
)

_CONTRACT = (
    r"expected an mtvision\.Sample|: expected (uint8|a mask of|boxes|labels|difficult|instances|the (map|value))|"
    r"^expected (uint8|a mask of|boxes|labels|difficult|instances|the (map|value))|must be None together|"
    r"^(image_id|original_size|maps|values): |instances without boxes|the instances (are|have)|the map '|"
    r"is in maps and in values|is taken by a standard task"
)

_PATTERNS = (*_KINDS, ("contract", _CONTRACT))


def problem_kind(sentence: str) -> str:
    """Return the kind of a problem, such as ``mask-size``; `OTHER` for a sentence that is none of the library's.

    Example:
        >>> problem_kind("/data/VOC/JPEGImages/a.jpg: the image is truncated: its end is missing")
        'truncated-image'
    """
    # What stands before the first colon is a file or an item: its name may hold anything.
    text = sentence.partition(": ")[2] or sentence
    return next((kind for kind, pattern in _PATTERNS if re.search(pattern, text)), OTHER)


def error_kinds() -> Iterable[str]:
    """Return all kinds of problems of an item."""
    return [kind for kind, _ in _PATTERNS] + [OTHER]
