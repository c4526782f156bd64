"""The containers, the scraping and the gateway's configuration say the same as the table of processes."""

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy import dashboard, nginx_conf, registry, table
from deploy.cli import _parser
from deploy.keys import Keys
from deploy.names import PREFIXES, SERVICE_NAMES
from deploy.secret_files import Addresses, Secrets, files
from libs.common.settings import Settings
from services.admin.resources import AdminSettings
from services.booking import resources as booking
from services.booking.resources import BookingSettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
PROCESSES = {process.name: process for process in table.PROCESSES}
SERVERS = {server.name: server for server in table.SERVERS}
ONCE = {process.name for process in table.PROCESSES if process.once}


def each(names: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", sorted(names))


# --- what runs --------------------------------------------------------------------------------------------------------


def test_containers_are_the_parts_of_the_table() -> None:
    assert set(CONTAINERS) == {part.name for part in table.PARTS}


def test_every_service_has_its_api_and_its_events() -> None:
    for name in SERVICE_NAMES:
        assert PROCESSES[name].words == ("api", name)
        assert PROCESSES[f"{name}-events"].words == ("events", name)


@each(PROCESSES)
def test_a_process_of_ours_runs_the_command_of_the_table_from_the_one_image(name: str) -> None:
    container = CONTAINERS[name]

    assert container["command"] == PROCESSES[name].command()
    assert container["image"] == "hallpass:latest"
    assert container["build"] == {"context": ".", "dockerfile": "deploy/Dockerfile"}
    assert "entrypoint" not in container


@each(PROCESSES)
def test_the_commands_of_the_table_are_understood(name: str) -> None:
    understood = _parser().parse_args(PROCESSES[name].command())

    assert isinstance(understood, argparse.Namespace)


@each(SERVERS)
def test_a_server_runs_as_the_table_says(name: str) -> None:
    server, container = SERVERS[name], CONTAINERS[name]

    assert container["image"] == server.image
    assert container.get("command", []) == server.command
    assert ":" in server.image
    assert not server.image.endswith(":latest")


@each(CONTAINERS)
def test_a_container_starts_after_what_the_table_says(name: str) -> None:
    needed = CONTAINERS[name].get("depends_on", {})

    assert set(needed) == set(table.BY_NAME[name].after)
    for before, condition in needed.items():
        wanted = "service_completed_successfully" if before in ONCE else "service_healthy"
        assert condition == {"condition": wanted}, before


@each(set(CONTAINERS) - ONCE)
def test_a_container_is_started_again_and_asked_whether_it_is_well(name: str) -> None:
    part, container = table.BY_NAME[name], CONTAINERS[name]
    asked = container["healthcheck"]["test"]

    if isinstance(part, table.Process):
        assert asked == ["CMD", "python", "-m", "deploy.probe", f"http://127.0.0.1:{part.port}{part.health}"]
    else:
        assert asked == ["CMD-SHELL", part.check]
    assert container["restart"] == "unless-stopped"


@each(ONCE)
def test_what_runs_once_is_not_started_again(name: str) -> None:
    assert CONTAINERS[name]["restart"] == "no"
    assert "healthcheck" not in CONTAINERS[name]


@each(PROCESSES)
def test_a_process_of_ours_has_time_to_finish_what_it_has_at_hand(name: str) -> None:
    assert CONTAINERS[name]["stop_grace_period"] == f"{table.STOP_GRACE_S}s"


# --- secrets and what can be reached ----------------------------------------------------------------------------------


@each(CONTAINERS)
def test_a_container_gets_its_own_secrets_and_no_others(name: str) -> None:
    given = CONTAINERS[name].get("env_file", [])
    secret = table.BY_NAME[name].secrets
    settings = [{"path": table.SETTINGS_FILE, "required": False}] if name in PROCESSES else []

    # Required: without `make secrets` nothing starts, least of all with a default.
    assert given == settings + ([{"path": f"secrets/{secret}", "required": True}] if secret else [])


def test_the_secrets_of_the_table_are_those_that_are_written() -> None:
    written = files(Secrets("one", "two", "three", Keys.fresh()), Addresses("postgres:1", "redis:2", "rabbitmq:3"))

    assert {part.secrets for part in table.PARTS} - {None} == set(written)


def test_the_usual_addresses_are_names_and_ports_of_the_table() -> None:
    usual = _parser().parse_args(["secrets"])

    for name in ("postgres", "redis", "rabbitmq"):
        assert getattr(usual, name) == f"{name}:{SERVERS[name].port}"


@each(CONTAINERS)
def test_no_secret_stands_in_the_file(name: str) -> None:
    environment = CONTAINERS[name].get("environment", {})
    telling = ("PASSWORD", "SECRET", "KEY", "DATABASE_URL", "REDIS_URL", "BROKER_URL")

    assert [variable for variable in environment if any(word in variable for word in telling)] == []


@each(PROCESSES)
def test_the_gateway_alone_is_believed_about_addresses(name: str) -> None:
    gateway = CONTAINERS["gateway"]["networks"]["edge"]["ipv4_address"]

    assert CONTAINERS[name]["environment"]["HALLPASS_TRUSTED_PROXIES"] == gateway


def test_only_the_gateway_publishes_a_port() -> None:
    published = {name: container["ports"] for name, container in CONTAINERS.items() if "ports" in container}

    assert published == {
        "gateway": [f"${{HALLPASS_HOST:-127.0.0.1}}:${{HALLPASS_PORT:-8000}}:{SERVERS['gateway'].port}"]
    }
    assert not any("network_mode" in container for container in CONTAINERS.values())


def test_the_gateway_is_on_a_network_with_what_it_leads_to_and_away_from_the_data() -> None:
    led_to = {"front", *SERVICE_NAMES}
    on_edge = {name for name, container in CONTAINERS.items() if "edge" in container["networks"]}

    assert list(CONTAINERS["gateway"]["networks"]) == ["edge"]
    assert on_edge == led_to | {"gateway"}
    assert set(SERVERS["gateway"].after) == led_to
    assert COMPOSE["networks"]["inner"] == {"internal": True}


@each(CONTAINERS)
def test_a_container_has_no_rights_that_it_does_not_need(name: str) -> None:
    container = CONTAINERS[name]

    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container.get("read_only", False) == (name in PROCESSES or name == "gateway")
    assert not container.get("privileged", False)


@each({"postgres", "redis", "rabbitmq", "prometheus", "grafana"})
def test_what_has_to_survive_lies_on_a_volume(name: str) -> None:
    assert name in COMPOSE["volumes"]
    assert any(mounted.startswith(f"{name}:") for mounted in CONTAINERS[name]["volumes"])


def test_files_lie_where_those_who_write_serve_and_sweep_them_find_them() -> None:
    folder = AdminSettings.model_fields["exports_url"].default.removeprefix("file://")
    uploads = BookingSettings.model_fields["uploads_url"].default.removeprefix("file://")
    mounted = {
        name for name, container in CONTAINERS.items() if "files:/var/lib/hallpass" in container.get("volumes", [])
    }

    assert "files" in COMPOSE["volumes"]
    assert mounted == {"admin", "booking", "worker", "export-worker"}
    assert folder.startswith("/var/lib/hallpass/")
    made = next(line for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines() if "/var/lib" in line)
    assert {folder, uploads, CONTAINERS["export-worker"]["environment"]["TMPDIR"]} <= set(made.split())


def test_a_run_of_an_export_finds_the_services_by_the_names_of_their_containers() -> None:
    for name in ("booking", "notify"):
        assert AdminSettings.model_fields[f"{name}_url"].default == f"http://{name}:{PROCESSES[name].port}"
        assert "inner" in CONTAINERS[name]["networks"]


def test_every_queue_has_a_worker() -> None:
    queues = {task.queue for service in registry.every() for task in service.tasks}
    workers = [_parser().parse_args(process.command()) for process in table.PROCESSES if process.words[0] == "worker"]

    assert sorted(worker.queue for worker in workers) == sorted(queues)


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_starts_our_commands_as_an_ordinary_user() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()

    assert 'ENTRYPOINT ["python", "-m", "deploy"]' in lines
    assert [line for line in lines if line.startswith("USER")] == ["USER hallpass"]
    assert "RUN pip install --require-hashes -r requirements.lock" in lines


def test_the_image_holds_what_is_copied_and_neither_secrets_nor_data() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    copied = {line.split()[1] for line in lines if line.startswith("COPY")}
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / path).exists() for path in copied)


# --- the gateway ------------------------------------------------------------------------------------------------------


def test_the_containers_nginx_reads_what_the_table_makes() -> None:
    written = {path.name: path.read_text() for path in nginx_conf.FOLDER.iterdir()}

    assert written == nginx_conf.container_files(), "run `python -m deploy.nginx_conf`"


def test_the_gateway_leads_every_prefix_to_the_port_of_its_service() -> None:
    config = (nginx_conf.FOLDER / "nginx.conf.template").read_text()

    for prefix, name in PREFIXES.items():
        assert f"location ~ ^{prefix}(/|$) {{" in config
        assert f"server {name}:{PROCESSES[name].port} resolve" in config
    assert f"listen {SERVERS['gateway'].port};" in config


def test_the_gateway_asks_after_itself_where_its_configuration_answers() -> None:
    address = urlsplit(SERVERS["gateway"].check.split()[-1])

    assert f"listen {address.netloc};" in nginx_conf.container_site().own_health
    assert f"location = {address.path} {{" in nginx_conf.container_site().own_health


def test_the_files_that_the_gateway_mounts_exist() -> None:
    secure = yaml.safe_load((ROOT / "docker-compose.tls.yml").read_text())["services"]["gateway"]
    mounted = [volume for volume in (*CONTAINERS["gateway"]["volumes"], *secure["volumes"]) if volume.startswith("./")]

    assert len(mounted) == 2
    for volume in mounted:
        assert (ROOT / volume.partition(":")[0]).is_file(), volume
    assert secure["ports"] == [f"${{HALLPASS_HOST:-127.0.0.1}}:${{HALLPASS_TLS_PORT:-8443}}:{nginx_conf.LISTEN_TLS}"]


def test_gateway_and_services_have_the_same_idea_of_a_large_body() -> None:
    usual = str(Settings.model_fields["max_body_bytes"].default)

    assert nginx_conf.Limits().max_body_bytes == usual
    for name in ("gateway", *PROCESSES):
        assert CONTAINERS[name]["environment"]["HALLPASS_MAX_BODY_BYTES"] == f"${{HALLPASS_MAX_BODY_BYTES:-{usual}}}"


def test_the_gateway_lets_through_whatever_a_service_takes() -> None:
    config = " ".join((nginx_conf.FOLDER / "nginx.conf.template").read_text().split())
    largest = BookingSettings.model_construct(upload_max_bytes=50 * 1024 * 1024)

    assert {f"/api/booking{path}" for path in booking.body_limits(largest)} == nginx_conf.UPLOADS.keys()
    for path in nginx_conf.UPLOADS:
        assert f"location = {path} {{ client_max_body_size {nginx_conf.LARGEST_UPLOAD_MB}m;" in config
    assert max(booking.body_limits(largest).values()) < nginx_conf.LARGEST_UPLOAD_MB * 1024 * 1024


def test_every_variable_in_the_gateways_template_is_given() -> None:
    limits = nginx_conf.container_site().limits
    environment = CONTAINERS["gateway"]["environment"]

    for variable in (limits.requests_per_second, limits.burst, limits.max_body_bytes):
        assert variable.strip("${}") in environment


# --- what is watched --------------------------------------------------------------------------------------------------


def test_prometheus_reads_every_process_that_has_metrics() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    found = [found for job in config["scrape_configs"] for found in job["dns_sd_configs"]]

    scraped = {name: entry["port"] for entry in found for name in entry["names"]}

    assert scraped == {process.name: process.port for process in table.PROCESSES if process.has_metrics}
    assert sum(len(entry["names"]) for entry in found) == len(scraped)
    assert "./deploy/prometheus/prometheus.yml:/etc/prometheus/prometheus.yml:ro" in CONTAINERS["prometheus"]["volumes"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVERS["prometheus"].command


def test_prometheus_follows_the_rules_beside_its_configuration() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())

    assert config["rule_files"] == ["alerts.yml"]
    assert "./deploy/prometheus/alerts.yml:/etc/prometheus/alerts.yml:ro" in CONTAINERS["prometheus"]["volumes"]


def test_grafana_shows_the_dashboard_of_the_table_over_our_prometheus() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "hallpass.yml").read_text())["providers"]
    mounted = CONTAINERS["grafana"]["volumes"]

    assert dashboard.FILE.read_text() == dashboard.text(), "run `python -m deploy.dashboard`"
    assert source["uid"] == dashboard.SOURCE["uid"]
    assert source["url"] == f"http://prometheus:{SERVERS['prometheus'].port}"
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounted
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in mounted


def test_what_operators_look_at_is_published_on_this_machine_alone_and_only_when_asked_for() -> None:
    watched = yaml.safe_load((ROOT / "docker-compose.watch.yml").read_text())["services"]

    assert set(watched) == {"grafana", "prometheus"}
    for name, container in watched.items():
        [port] = container["ports"]
        assert port.startswith("127.0.0.1:")
        assert port.endswith(f":{SERVERS[name].port}")
