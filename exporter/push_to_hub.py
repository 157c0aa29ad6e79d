"""The way of an export to a repository at Hugging Face, as its own client uploads folders."""

from pathlib import Path

from exporter.errors import PushError, RequestError


def check_push(repository: str) -> None:
    """Refuse, before any work, what could not be pushed: a RequestError."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise RequestError(f"--push-to-hub {repository}: expected OWNER/NAME: {error}") from error
    if get_token() is None:
        raise RequestError(
            f"--push-to-hub {repository}: Hugging Face asks who you are; run `hf auth login`, or "
            "put a token that may write into HF_TOKEN"
        )


def push(directory: Path, repository: str) -> str:
    """Upload a finished export in one commit, and give the address of its repository.

    A repository that is not there is made, for its owner's eyes only. Files of an earlier commit
    that the export lacks stay.

    Raises:
        PushError: The hub said no, or there is no network; the export is as it was.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id, folder_path=directory, commit_message=f"Upload {directory.name}"
        )
    except Exception as error:  # what the client's HTTP library raises has no type of its own
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise PushError(
            f"{directory} is whole, but not at {repository}: {reason:.1000}; "
            f"when that is mended: hf upload {repository} {directory}"
        ) from error
    return str(made)
