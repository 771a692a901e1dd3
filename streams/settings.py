"""Settings of the processor, read once from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.seal import KEY_FILE

#: In a replay, the header that carries a record's offset in the log it was recorded from.
REPLAY_OFFSET = "tongbu-offset"


class Settings(BaseSettings):
    """What the processor needs to know of its surroundings; the names are those of `tongbu env`."""

    model_config = SettingsConfigDict(extra="ignore")

    kafka_bootstrap: str
    #: Folder for state, key file and status.
    tongbu_data: Path
    #: Prefix of every topic name, e.g. `replay.x1.`.
    tongbu_namespace: str = ""
    #: The sources to run, instead of those of streams/sources.yaml.
    tongbu_sources: Path | None = None
    #: A replay takes offsets from headers, appends nothing to its log, and does not check the topic's id.
    tongbu_replay: bool = False
    #: Folder for checkpoints of the lanes' states; best on another disk, and shared by all workers.
    tongbu_checkpoints: Path | None = None
    #: Seconds between two checkpoints of a lane, and how many of them are kept.
    tongbu_checkpoint_seconds: float = Field(default=600.0, gt=0)
    tongbu_checkpoints_kept: int = Field(default=3, ge=1)
    #: Where /metrics and /healthz answer, e.g. 127.0.0.1:9464; empty: nowhere.
    tongbu_metrics: str = Field(default="", pattern=r"^$|^\S+:\d+$")
    #: Seconds without heartbeat after which the group gives the lanes to another worker.
    tongbu_session_seconds: float = Field(default=10.0, ge=6.0)

    @property
    def delivery_seconds(self) -> float:
        """Within these the broker takes an output, or the process ends: before another worker may own its lanes."""
        return 0.8 * self.tongbu_session_seconds

    @property
    def state_folder(self) -> Path:
        """Where the lanes' states are."""
        return self.tongbu_data / "state" / (self.tongbu_namespace.rstrip(".") or "live")

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints are."""
        folder = self.tongbu_checkpoints or self.tongbu_data / "checkpoints"
        return folder / (self.tongbu_namespace.rstrip(".") or "live")

    @property
    def key_file(self) -> Path:
        """The key that seals dead letters."""
        return self.tongbu_data / KEY_FILE
