"""The shapes: everything that crosses a boundary. Imports nothing of ours."""
