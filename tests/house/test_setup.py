# SPDX-License-Identifier: Apache-2.0
"""The set-up hands pip's settings on to uv, and shows none of them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECRET = "https://ann:secret@mirror.test/simple"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    loaded = {}
    for name in ("children", "pip_settings", "setup"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded[name] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded[name])
        spec.loader.exec_module(loaded[name])
    return loaded


def test_every_setting_finds_its_place(scripts: dict[str, ModuleType]) -> None:
    listing = (
        f"global.index-url='{SECRET}'\n"
        "global.extra-index-url='file:///one/simple\\nfile:///two/simple'\n"
        "global.find-links='/wheels /more'\n"
        "global.cert='/a.pem'\n"
        "install.trusted-host='one.test\\ntwo.test'\n"
        ":env:.default-timeout='180'\n"
        "freeze.all='true'\n"
    )
    environ = scripts["pip_settings"].for_uv(scripts["pip_settings"].parse(listing), {"PATH": "/bin"})
    assert environ == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": SECRET,
        "UV_INDEX": "file:///one/simple file:///two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/a.pem",
        "UV_INSECURE_HOST": "one.test two.test",
        "UV_HTTP_TIMEOUT": "180",
    }


def test_environment_wins_over_files_in_any_order(scripts: dict[str, ModuleType]) -> None:
    for lines in ((":env:.cert='/env'", "global.cert='/file'"), ("global.cert='/file'", ":env:.cert='/env'")):
        assert scripts["pip_settings"].parse("\n".join(lines)) == {"cert": "/env"}


def test_the_users_own_uv_settings_stay(scripts: dict[str, ModuleType]) -> None:
    mine = {"UV_DEFAULT_INDEX": "https://mine.test", "SSL_CERT_FILE": "/mine"}
    assert scripts["pip_settings"].for_uv({"index-url": SECRET, "cert": "/pips"}, mine) == mine


def test_a_lock_is_made_from_the_index_alone(scripts: dict[str, ModuleType]) -> None:
    settings = {"index-url": SECRET, "extra-index-url": "file:///x", "find-links": "/y"}
    assert scripts["pip_settings"].for_uv(settings, {}, everywhere=False) == {"UV_DEFAULT_INDEX": SECRET}


def test_no_index_is_handed_on(scripts: dict[str, ModuleType]) -> None:
    assert scripts["pip_settings"].for_uv({"no-index": "true"}, {}) == {"UV_NO_INDEX": "1"}


def test_addresses_are_not_shown(scripts: dict[str, ModuleType]) -> None:
    redact = scripts["pip_settings"].redact
    settings = {"index-url": SECRET + "/", "find-links": "/wheels/here"}
    shown = redact(f"from {SECRET}/torch/ and /wheels/here, https://other.test/x", settings, {})
    assert "secret" not in shown
    assert "mirror" not in shown
    assert "/wheels" not in shown
    assert "other.test" not in shown


def test_local_builds_of_a_pinned_version_are_excluded(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts["setup"], "ROOT", tmp_path)
    (tmp_path / "x.lock").write_text(
        "a-b==1.0 ; python_version == '3.11' \\\n    --hash=sha256:00\n    # via c==d\n"
    )
    assert scripts["setup"].pinned("x.lock").splitlines() == [
        "a-b===1.0 ; python_version == '3.11' \\",
        "    --hash=sha256:00",
        "    # via c==d",
    ]


def test_missing_ensurepip_names_the_debian_package(tmp_path: Path) -> None:
    """A copy of the project without .venv, and a Python without ensurepip."""
    for name in ("requirements.lock", "requirements.uv.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "scripts").mkdir()
    for name in ("setup.py", "children.py", "pip_settings.py"):
        (tmp_path / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
    (tmp_path / "scripts" / "ensurepip.py").write_text("raise ImportError")
    command = [sys.executable, str(tmp_path / "scripts" / "setup.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()
