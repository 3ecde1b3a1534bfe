"""What a model does not know: how far maps and predictions differ over flips, dropout, folds or seeds."""
