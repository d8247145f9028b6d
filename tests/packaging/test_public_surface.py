"""What a user can name changes on purpose only."""

import ast
import difflib
import re

from public_surface import FILE, described, signature, surface

import mtvision as mtv


def test_the_public_surface_is_the_written_one():
    difference = difflib.unified_diff(FILE.read_text(encoding="utf-8").splitlines(), surface(), lineterm="", n=0)
    changed = [line for line in difference if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert not changed, "if that is meant, run python tests/packaging/public_surface.py:\n" + "\n".join(changed)


def test_every_name_is_in_it():
    lines = FILE.read_text(encoding="utf-8").splitlines()
    for name in mtv.__all__:
        assert any(re.match(rf"(class |def |module )?mtvision\.{name}\b", line) for line in lines), name


def test_a_changed_default_is_seen():
    before, after = (ast.parse(f"def f(a: int, *, b: str = {text!r}) -> bool: ...").body[0] for text in "xy")
    assert signature(before) == "(a: int, *, b: str='x') -> bool"
    assert signature(before) != signature(after)


def test_a_class_shows_methods_fields_and_properties_of_its_own_and_its_bases():
    lines = described("mtv.Sample", mtv.Sample)
    assert "    image: NDArray[np.uint8]" in lines
    lines = described("mtv.MultiTaskModel", mtv.MultiTaskModel)
    assert any(line.startswith("    predict(self, images") for line in lines)
    assert any(line.startswith("    @staticmethod from_pretrained(") for line in lines)
    assert not any(line.startswith("    _") and "__init__" not in line for line in lines)
