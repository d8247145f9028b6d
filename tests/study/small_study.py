"""A study of runs of a second, shared by the tests of the queue and its workers."""

BASE = {
    "system": {"epochs": 2, "device": "cpu", "seed": 3, "trackers": []},
    "model": {"backbone": "test_resnet", "dropout_rate": 0.0},
    "training": {"batch_size": 4, "optimizer": "sgd", "lr": 0.01, "warmup_epochs": 0.0},
    "data": {
        "dataset": {"name": "shapes", "num_images": 8, "image_size": 32},
        "image_size": 32,
        "augmentation_level": "none",
    },
}
FACTORS = {"model.activation": ["relu", "gelu"], "training.lr": [0.01, 0.1]}


def content(**values):
    """Return a study's description: 3 configurations, one seed, unless values say otherwise."""
    return {"base": BASE, "factors": FACTORS, "design": "one_at_a_time", "seeds": [0], **values}
