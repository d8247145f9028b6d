"""A hub without a network."""

import shutil
from types import SimpleNamespace

import pytest


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that keeps its repositories in a folder, and what it was asked."""
    asked = []
    root = tmp_path / "hub"

    def create_repo(api, repo_id, *, private, exist_ok):
        asked.append(("create", repo_id, private, exist_ok, api.token))
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(api, *, repo_id, folder_path, commit_message, revision, ignore_patterns, **options):
        asked.append(("upload", repo_id, commit_message, revision, ignore_patterns))
        shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
        return f"commit of {repo_id}"

    def download(repo_id, *, filename, revision, **options):
        asked.append(("file", repo_id, filename, revision))
        return str(root / repo_id / filename)

    def snapshot(repo_id, *, allow_patterns, revision, **options):
        asked.append(("snapshot", repo_id, tuple(allow_patterns), revision))
        return str(root / repo_id)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("mtvision.hub.folder.snapshot_download", snapshot)
    return SimpleNamespace(root=root, asked=asked)
