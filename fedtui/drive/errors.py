"""What goes wrong between here and Google, in words."""
from __future__ import annotations

import http.client
from typing import Any

import httplib2
from google.auth.exceptions import RefreshError, TransportError
from googleapiclient.errors import HttpError

from poweranger.errors import UserError

RATE_LIMITS = {"rateLimitExceeded", "userRateLimitExceeded"}
NOT_ENABLED = {"accessNotConfigured", "SERVICE_DISABLED"}
NO_CONNECTION = (OSError, http.client.HTTPException, httplib2.HttpLib2Error, TransportError)


class UploadFailed(UserError):
    """The upload did not come to its end; the same command goes on where it stopped."""

    exit_code = 1


class PermissionGone(UploadFailed):
    """Google does not take the stored permission any more."""


def passes(error: Exception) -> bool:
    """Whether waiting may help: the server's own trouble, a rate limit, a broken connection."""
    if isinstance(error, HttpError):
        return error.status_code >= 500 or error.status_code == 429 or (error.status_code == 403 and _reason(error) in RATE_LIMITS)
    if isinstance(error, RefreshError):
        return bool(error.retryable)
    return isinstance(error, NO_CONNECTION)


def explain(error: Exception) -> UploadFailed:
    """The sentence for an error that waiting does not mend."""
    if isinstance(error, RefreshError):
        return PermissionGone(f"Google does not accept the stored permission any more ({error.args[0]}): the same command asks for it anew")
    if not isinstance(error, HttpError):
        return UploadFailed(f"Google Drive cannot be reached ({brief(error)}): the same command goes on from here")
    reason = _reason(error)
    if error.status_code == 401 or reason == "insufficientPermissions":
        return PermissionGone("Google Drive does not accept the stored permission any more: the same command asks for it anew")
    if reason in NOT_ENABLED:
        return UploadFailed("the Google Drive API is not enabled in the project of your client secret file: enable it there (docs/drive.md), then wait a minute")
    if reason == "storageQuotaExceeded":
        return UploadFailed("the Google Drive is full: make room there, then the same command goes on from here")
    return UploadFailed(f"Google Drive refuses it ({brief(error)}); what has arrived stays there")


def brief(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, HttpError):
        return f"{error.status_code} {error.reason}".strip()
    return str(error) or type(error).__name__


def _reason(error: HttpError) -> str:
    """Google's word for why, such as `rateLimitExceeded`; empty when it gives none."""
    details: Any = error.error_details
    first = details[0] if isinstance(details, list) and details else {}
    return str(first.get("reason", "")) if isinstance(first, dict) else ""
