"""The code version: package and commit, and no failure where there is neither git nor a package."""

import subprocess
from importlib.metadata import PackageNotFoundError, version

import pytest

from cluster import code_version as module


@pytest.fixture(autouse=True)
def _forget():
    module.code_version.cache_clear()
    yield
    module.code_version.cache_clear()


def test_a_checkout_is_named_by_its_commit(tmp_path, monkeypatch) -> None:
    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("x")
    git("add", "file")
    git("commit", "-m", "first")
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    commit = git("rev-parse", "--short=12", "HEAD")
    assert module.code_version() == f"{version('equimodels')}+git.{commit}"
    (tmp_path / "file").write_text("y")
    module.code_version.cache_clear()
    assert module.code_version() == f"{version('equimodels')}+git.{commit}.dirty"


def test_without_a_checkout_the_package_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    assert module.code_version() == version("equimodels")


def test_without_git_the_package_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.code_version() == version("equimodels")


def test_without_a_package_there_is_still_a_version(tmp_path, monkeypatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", nothing)
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    assert module.code_version() == "0"
