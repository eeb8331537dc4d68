"""Settings of the script's config."""

from dataclasses import dataclass
from pathlib import Path

from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class ConfigSettings:
    """Read by `app` for `configfile` and the ledger, and by `dropmill config`."""

    config: Path = setting(
        "--config",
        values.path,
        Path("config.yaml"),
        "The script's YAML config, edited in the browser; created from the packaged one if missing.",
        metavar="FILE",
    )
    config_tags: str = setting(
        "--config-tags",
        values.one_of("refuse", "keep"),
        "refuse",
        "Application tags in the config, such as !secret. refuse: reject a config that has them. keep: leave them in "
        "the text and give scripts the tagged value as plain text, list or mapping; nothing is ever constructed.",
        metavar="refuse|keep",
    )
    keep_revisions: int = setting(
        "--keep-revisions",
        values.count,
        1000,
        "Number of config revisions kept in full (plus any still in use); older ones keep only their metadata.",
        metavar="N",
    )

    @property
    def keeps_config_tags(self) -> bool:
        """Whether application tags in the config are accepted."""
        return self.config_tags == "keep"
