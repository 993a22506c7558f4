"""The experiments themselves, a file a family; imported when one is first looked up."""
