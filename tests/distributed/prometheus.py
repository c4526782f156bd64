"""Prometheus as a child process, which reads what our own reads, where it is on this machine."""

import copy
from pathlib import Path
from typing import Any

import httpx2
import yaml

from deploy.native import HERE, Native
from deploy.probe import answers
from deploy.servers.process import Child, clean_environment, find_program, free_port, wait_until_ready
from deploy.servers.server import Server

CONFIG = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.yml"
INTERVAL = "1s"


class Prometheus(Server):
    """Scrapes the processes of an installation every second, by the configuration that the containers have."""

    name = "Prometheus"
    programs = frozenset({"prometheus"})

    def __init__(self, data: Path, native: Native) -> None:
        super().__init__(data)
        self._native = native
        self.port = free_port()

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API; fail where it finds fault with the question."""
        answer = httpx2.get(
            f"http://{HERE}:{self.port}/api/v1/{path}", params=query, timeout=60, trust_env=False
        ).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    def _launch(self) -> Child:
        self.folder.write("prometheus.yml", yaml.safe_dump(self._config()))
        program = find_program("prometheus")
        assert program is not None
        where = [f"--web.listen-address={HERE}:{self.port}", "--storage.tsdb.path=tsdb"]
        words: list[str | Path] = [program, "--config.file=prometheus.yml", *where]
        child = Child(words, log=self.log, env=clean_environment(), cwd=self.data)
        wait_until_ready(child, lambda: answers(f"http://{HERE}:{self.port}/-/ready"), 30, self.name)
        return child

    def _config(self) -> dict[str, Any]:
        """Put addresses in the place of names that only containers have."""
        config: dict[str, Any] = copy.deepcopy(yaml.safe_load(CONFIG.read_text()))
        config["global"] = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
        config["rule_files"] = [str(CONFIG.parent / name) for name in config["rule_files"]]
        for job in config["scrape_configs"]:
            names = [name for found in job.pop("dns_sd_configs") for name in found["names"]]
            del job["relabel_configs"]
            job["static_configs"] = [
                {"targets": [f"{HERE}:{self._native[name].port}"], "labels": {"process": name}} for name in names
            ]
        return config
