"""One file a task: where its data comes from, what is trained on it and how replies are scored."""
