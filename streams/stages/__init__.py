"""Pure stages of the pipeline, each independent of the others."""
