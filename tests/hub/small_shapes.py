"""A run of a second and images: what tests of the hub share."""

import torch

CONFIG = {
    "system": {"epochs": 1, "device": "cpu", "seed": 3},
    "model": {"backbone": "test_resnet"},
    "training": {"batch_size": 4, "lr": 0.01},
    "data": {"dataset": {"name": "shapes", "num_images": 8, "image_size": 64}, "image_size": 64},
}
IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def outputs(model):
    with torch.no_grad():
        return model(IMAGES)


def same_outputs(first, second):
    tensors = [[value for value in output if isinstance(value, torch.Tensor)] for output in first.values()]
    others = [[value for value in output if isinstance(value, torch.Tensor)] for output in second.values()]
    return first.keys() == second.keys() and all(
        torch.equal(a, b) for one, two in zip(tensors, others, strict=True) for a, b in zip(one, two, strict=True)
    )
