"""What is shipped for machines: it is well formed, and each command in it is one that there is."""

import re
import shlex
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from node.arguments import parse

ROOT = Path(__file__).parents[2]
FILES = {
    "compose": ROOT / "docker-compose.yml",
    "kubernetes": ROOT / "deploy" / "kubernetes" / "waggle.yaml",
    "skypilot": ROOT / "deploy" / "skypilot.yaml",
    "systemd": ROOT / "deploy" / "systemd" / "waggle.service",
}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILES["compose"].read_text())["services"]
    return found


def commands() -> list[tuple[str, str]]:
    """(file, words after waggle)."""
    nodes = [("compose", service["command"]) for service in compose().values() if service["image"] == "waggledance"]
    texts = [(name, path.read_text()) for name, path in FILES.items() if name != "compose"]
    line = re.compile(r"(?m)^[^#\n]*?waggle ((?:start|join|doctor).*)$")
    return [*nodes, *((name, found) for name, text in texts for found in line.findall(text))]


@pytest.mark.parametrize(("file", "command"), commands())
def test_each_command_is_understood(file: str, command: str, tmp_path: Path) -> None:
    words = shlex.split(command.replace("${WAGGLE_PROGRAM:-lm-mini}", "lm-mini"))
    assert parse(words, {"HOME": str(tmp_path)})


def test_there_is_one_for_each() -> None:
    assert {file for file, _ in commands()} == set(FILES)


def test_the_unit_has_its_sections() -> None:
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(FILES["systemd"])
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert unit["Service"]["NoNewPrivileges"] == "yes"


def test_systemd_itself_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd here")
    unit = tmp_path / "waggle.service"
    unit.write_text(FILES["systemd"].read_text().replace("/usr/local/bin/waggle", "/bin/true"))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_kubernetes_own_schemas_take_the_manifest() -> None:
    """No field is unknown to the oldest and the newest version that we know of."""
    import kubernetes_validate

    for version in ("1.27", kubernetes_validate.latest_version()):
        for one in yaml.safe_load_all(FILES["kubernetes"].read_text()):
            kubernetes_validate.validate(one, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**one, "specs": {}}, version, strict=True)


def test_containers_get_no_rights() -> None:
    for name, service in compose().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
        assert not any("docker.sock" in str(volume) for volume in service["volumes"]), name
        for port in service.get("ports", ()):
            assert port == "4001:4001" or port.startswith("127.0.0.1:"), "only gossip is for other machines"


def test_workers_share_no_home() -> None:
    homes = {name: [v for v in one["volumes"] if v.endswith("/var/lib/waggle")] for name, one in compose().items()}
    assert homes["worker"] == ["/var/lib/waggle"]  # without a name: each replica has its own
    assert homes["seed"] == ["seed:/var/lib/waggle"]


def test_a_pod_gets_no_rights_and_has_a_home_of_its_own() -> None:
    service, pods = yaml.safe_load_all(FILES["kubernetes"].read_text())
    assert pods["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == pods["spec"]["template"]["metadata"]["labels"]
    pod = pods["spec"]["template"]["spec"]
    (node,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert node["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    mounts = {one["name"] for one in node["volumeMounts"]}
    claims = {one["metadata"]["name"] for one in pods["spec"]["volumeClaimTemplates"]}
    assert mounts == claims | {one["name"] for one in pod["volumes"]}
    ports = {one["name"] for one in node["ports"]}
    assert {probe["httpGet"]["port"] for probe in (node["startupProbe"], node["livenessProbe"])} <= ports
