"""Images that are the same, or nearly: by a digest of the pixels, and by a perceptual hash."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.data.checking.check_report import Finding

NEAR_BITS = 7
"""By how many of its 64 bits the hash of the same picture may differ (re-encoded, resized, a little brighter)."""

_SIDE = 32  # pixels of the grey picture that the hash is made of
_FREQUENCIES = 8
_THUMBNAIL = 16
_MIN_CONTRAST = 4.0  # standard deviation of the grey picture in levels; below it, the hash is that of noise
_MIN_CORRELATION = 0.9  # of the thumbnails
_BAND_BITS = 16
_MOST_CANDIDATES = 64  # of one look-up
_BLOCK = 1 << 20  # pairs of codes looked at at once
_THUMBNAILS_AT_ONCE = 1 << 14


class Signature(NamedTuple):
    """What two images are compared by.

    Attributes:
        digest: of size and pixels, 16 bytes.
        code: the 64 bits of the perceptual hash; None for an image with too little contrast to have one.
        thumbnail: uint8 ``(16, 16)``, grey.
    """

    digest: bytes
    code: int | None
    thumbnail: NDArray[np.uint8]


def signature(image: NDArray[np.uint8]) -> Signature:
    """Return the signature of an image ``(H, W, 3)`` RGB.

    The hash holds, for the lowest frequencies of the cosine transform of a small grey picture, whether each is above
    their median (Zauner 2010, pHash): little of it changes with compression, size or brightness. Mirrored or cropped
    copies have another one.
    """
    import cv2

    data = np.ascontiguousarray(image)
    digest = hashlib.blake2b(repr(data.shape).encode(), digest_size=16)
    digest.update(data.data)
    grey = cv2.resize(cv2.cvtColor(data, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    thumbnail = np.asarray(cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    code = None
    if float(grey.std()) >= _MIN_CONTRAST:
        spectrum = np.asarray(cv2.dct(grey.astype(np.float32)))[:_FREQUENCIES, :_FREQUENCIES].ravel()
        bits = spectrum > np.median(spectrum[1:])  # the first is the mean brightness, which says nothing
        bits[0] = False
        code = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return Signature(digest.digest(), code, thumbnail)


class Signatures:
    """The signatures of a data set's images, in the order of the items."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.image_ids: list[str] = []
        self.digests: list[bytes] = []
        self._codes: list[int | None] = []
        self._thumbnails: list[NDArray[np.uint8]] = []

    def add(self, index: int, image_id: str, image: NDArray[np.uint8]) -> None:
        """Remember one image ``(H, W, 3)``."""
        found = signature(image)
        self.indices.append(index)
        self.image_ids.append(image_id)
        self.digests.append(found.digest)
        self._codes.append(found.code)
        self._thumbnails.append(found.thumbnail)

    def first_of_each(self) -> dict[bytes, int]:
        """Return the place of the first image with each digest."""
        return {digest: place for place, digest in reversed(list(enumerate(self.digests)))}

    def hashed(self) -> "_Hashed":
        """Return the images that have a hash, one of each digest."""
        first = self.first_of_each()
        chosen = [(place, code) for place in sorted(first.values()) if (code := self._codes[place]) is not None]
        places = [place for place, _ in chosen]
        thumbnails = np.array([self._thumbnails[place] for place in places], dtype=np.uint8)
        codes = np.array([code for _, code in chosen], dtype=np.uint64)
        return _Hashed(np.array(places, dtype=np.int64), codes, thumbnails.reshape(-1, _THUMBNAIL**2))


class _Hashed(NamedTuple):
    """Places in `Signatures`, hashes, flat thumbnails; a row an image."""

    places: NDArray[np.int64]
    codes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]


def duplicate_findings(own: Signatures, others: Mapping[str, Signatures], *, within: bool) -> list[Finding]:
    """Return a warning for each image that repeats an earlier one, or one of another set.

    Of images that are the same within the set the first has no warning, so that leaving out all that have one keeps it.
    Of several images that an image looks the same as, one of the nearest is named, not always the nearest. Among
    thousands that are all alike, a few copies may go without a warning: see ``most`` of `close_pairs`.

    Args:
        own: of the data set.
        others: of those that it is compared with, by name; an image has at most one warning for each.
        within: whether images of the set are compared with each other.
    """
    findings = _same(own, own, None) + _near(own, own, None) if within else []
    for name, other in others.items():
        findings += _same(own, other, name) + _near(own, other, name)
    return findings


def _same(own: Signatures, other: Signatures, name: str | None) -> list[Finding]:
    first = other.first_of_each()
    findings = []
    for place, digest in enumerate(own.digests):
        found = first.get(digest)
        if found is not None and (name is not None or found < place):
            findings.append(_finding(own, place, other.image_ids[found], name, None))
    return findings


def _near(own: Signatures, other: Signatures, name: str | None) -> list[Finding]:
    copies = defaultdict(list)
    for place, digest in enumerate(own.digests):
        copies[digest].append(place)
    same = set(own.digests) & set(other.digests) if name is not None else set()
    return [
        _finding(own, copy, other.image_ids[found], name, distance)
        for place, (distance, found) in sorted(_nearest(own, other, name is None).items())
        if own.digests[place] not in same
        # Within the set the other copies are told of already.
        for copy in (copies[own.digests[place]] if name is not None else [place])
    ]


def _nearest(own: Signatures, other: Signatures, within: bool) -> dict[int, tuple[int, int]]:
    """Return, by place, in how many bits an image differs that looks the same, one of the nearest, and its place."""
    mine, theirs = own.hashed(), other.hashed()
    best: dict[int, tuple[int, int]] = {}
    is_open = np.ones(len(mine.codes), dtype=np.bool_)
    for rows, columns in close_pairs(mine.codes, theirs.codes, most=_MOST_CANDIDATES, is_open=is_open):
        wanted = columns < rows if within else np.ones(len(rows), dtype=np.bool_)
        rows, columns = rows[wanted], columns[wanted]
        alike = _look_alike(mine.thumbnails, theirs.thumbnails, rows, columns)
        rows, columns = rows[alike], columns[alike]
        bits = num_different_bits(mine.codes[rows], theirs.codes[columns])
        order = np.lexsort((columns, bits, rows))
        _, starts = np.unique(rows[order], return_index=True)
        for number in order[starts].tolist():
            place = int(mine.places[rows[number]])
            found = (int(bits[number]), int(theirs.places[columns[number]]))
            best[place] = min(best.get(place, found), found)
        is_open[rows] = False
    return best


def _finding(own: Signatures, place: int, other: str, name: str | None, bits: int | None) -> Finding:
    image_id = own.image_ids[place]
    where = f"image '{other}'" + (f" of '{name}'" if name is not None else "")
    if bits is None:
        text = f"image '{image_id}': it has the same pixels as {where}"
    else:
        text = f"image '{image_id}': it looks the same as {where} ({bits} of 64 bits of their hashes differ)"
    kind = ("" if bits is None else "near-") + ("duplicate-image" if name is None else "duplicate-across-splits")
    return Finding(text, kind=kind, severity="warning", index=own.indices[place], image_id=image_id)


def close_pairs(
    first: NDArray[np.uint64],
    second: NDArray[np.uint64],
    *,
    most: int | None = None,
    is_open: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows of pairs whose codes differ by at most `NEAR_BITS` bits; a pair may come up to four times.

    Not all pairs are looked at: of four bands of 16 bits, two such codes have one that differs by at most one bit, so
    each code is looked up with its bands as they are and with each of their bits turned (Norouzi et al. 2012).

    Args:
        first: codes ``(P,)``.
        second: codes ``(Q,)``.
        most: codes that one look-up of a code yields at most, so that the pairs of many images that are all alike do
            not grow with their square; some pairs are not found then. None: all.
        is_open: ``(P,)``, which codes are to be looked up; the caller may close some between two blocks. None: all.
    """
    for shift in range(0, 64, _BAND_BITS):
        own, other = (_band(codes, shift) for codes in (first, second))
        order = np.argsort(other, kind="stable")
        ordered = other[order]
        for turned in (0, *(1 << bit for bit in range(_BAND_BITS))):
            starts = np.searchsorted(ordered, own ^ turned, side="left")
            ends = np.searchsorted(ordered, own ^ turned, side="right")
            if most is not None:
                ends = np.minimum(ends, starts + most)
            if is_open is not None:
                ends = np.where(is_open, ends, starts)
            for rows, places in _ranges(starts, ends):
                columns = order[places]
                close = num_different_bits(first[rows], second[columns]) <= NEAR_BITS
                if close.any():
                    yield rows[close], columns[close]


def _band(codes: NDArray[np.uint64], shift: int) -> NDArray[np.int64]:
    return ((codes >> np.uint64(shift)) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)


def _ranges(
    starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, for the row i of each range, i and each number in ``range(starts[i], ends[i])``, in blocks."""
    counts = ends - starts
    before = np.concatenate([[0], np.cumsum(counts)])
    if before[-1] == 0:
        return
    cuts = np.searchsorted(before, np.arange(0, before[-1], _BLOCK), side="right") - 1
    for begin, end in zip(cuts, [*cuts[1:], len(counts)], strict=True):
        rows = np.repeat(np.arange(begin, end), counts[begin:end])
        offsets = np.arange(len(rows)) - (before[rows] - before[begin])
        yield rows, starts[rows] + offsets


def num_different_bits(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return in how many bits the codes of each pair differ."""
    # NumPy 1 has no bitwise_count.
    table = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)
    different = np.ascontiguousarray(first ^ second)
    return np.asarray(table[different.view(np.uint8).reshape(-1, 8)].sum(axis=1, dtype=np.int64))


def _look_alike(
    first: NDArray[np.uint8], second: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell of each pair of thumbnails whether they correlate; in blocks, since they are compared as floats."""
    alike = np.zeros(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), _THUMBNAILS_AT_ONCE):
        part = slice(start, start + _THUMBNAILS_AT_ONCE)
        one, two = (
            pixels - pixels.mean(axis=1, keepdims=True) for pixels in (first[rows[part]], second[columns[part]])
        )
        spread = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
        alike[part] = (one * two).sum(axis=1) >= _MIN_CORRELATION * spread
    return alike
