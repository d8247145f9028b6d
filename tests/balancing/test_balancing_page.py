"""The page on balancing says what is true."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

import mtvision as mtv
from balancing.toy import ALL, OF_GRADIENTS, OF_LOSSES
from mtvision.registries import BALANCERS
from mtvision.registry import Component
from mtvision.training.balancing import LossBalancer

PAGE = (Path(__file__).parents[2] / "docs" / "balancing.md").read_text()


def rows(section):
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {name: cell.strip() for name, cell in re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", text, flags=re.MULTILINE)}


def test_the_tables_name_every_balancer_where_it_belongs():
    assert sorted(rows("On losses")) == OF_LOSSES
    assert sorted(rows("On gradients")) == OF_GRADIENTS


@pytest.mark.parametrize("name", ALL)
def test_a_source_is_that_of_the_docstring(name):
    source = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", {**rows("On losses"), **rows("On gradients")}[name])
    assert source == BALANCERS.describe(name).source


def test_the_config_can_be_read():
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
    assert mtv.Config(**yaml.safe_load(block)).training.balancer == Component("dwa", {"temperature": 2.0})


def test_the_balancer_of_ones_own_runs():
    block = next(text for text in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    exec(block, {"mtv": mtv, "torch": torch, "Tensor": Tensor, "LossBalancer": LossBalancer})
    assert BALANCERS.build("inverse", 3).weigh(torch.tensor([0.5, 0.0, 4.0])).tolist() == [2.0, 0.0, 0.25]
