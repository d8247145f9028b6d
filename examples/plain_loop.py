"""A training loop without the Trainer: copy it and change what you like."""

import argparse

import torch

import mtvision as mtv


def main(epochs: int = 8, images: int = 200, lr: float = 0.002) -> dict[str, float]:
    config = mtv.Config(
        model={"backbone": "test_resnet", "dropout_rate": 0.0},
        training={"batch_size": 8},
        data={"dataset": {"name": "shapes", "num_images": images, "image_size": 64}, "image_size": 64},
    )
    train_data, val_data = mtv.build_dataset(config, "train"), mtv.build_dataset(config, "val")
    loader = mtv.build_loader(config, train_data, training=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = mtv.build_model(config, classes=train_data.classes).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(loader))

    for epoch in range(epochs):
        loader.set_epoch(epoch)  # another order and another augmentation each epoch
        model.train()
        for loaded in loader:
            batch = loaded.to(device)
            losses = model.loss(model(batch.images), batch.targets)  # {"seg": {part: loss}, "det": {part: loss, ...}}
            total = torch.stack([part for parts in losses.values() for part in parts.values()]).sum()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss of the last batch {total.item():.3f}")

    result = mtv.evaluate(model, val_data)
    print(result)
    return result.metrics


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    main(options.epochs, options.images)
