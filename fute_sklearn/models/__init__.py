"""From a model of any kind to a labelled task: wrapped, asked, checked, kept."""
