"""Models on the Hugging Face Hub and in folders like its own; see `MultiTaskModel.save_pretrained`."""
