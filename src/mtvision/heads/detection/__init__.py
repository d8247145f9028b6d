"""Detection heads: from features to class logits and box regression at points."""
