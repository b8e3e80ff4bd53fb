"""Images in, batches out: sources, the decoded store, and the tf.data pipeline."""
