"""A level against its base level, or several levels that always change together."""

from collections.abc import Mapping
from dataclasses import dataclass

JOIN = " + "


@dataclass(frozen=True)
class Comparison:
    """A level against its base level, or several that always change together.

    Attributes:
        level: label by factor.
        base: label by the same factors.
        reason: why the runs cannot tell; empty if they can.
    """

    level: Mapping[str, str]
    base: Mapping[str, str]
    reason: str = ""

    @property
    def factor_name(self) -> str:
        """Names of the factors in one string."""
        return JOIN.join(self.level)

    @property
    def level_name(self) -> str:
        """Labels of the levels in one string."""
        return JOIN.join(self.level.values())

    @property
    def base_name(self) -> str:
        """Labels of the base levels in one string."""
        return JOIN.join(self.base.values())
