"""The crash runner: processes are killed, frozen and stopped under load, then everything is compared with a clean run."""
