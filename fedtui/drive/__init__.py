"""Upload of a run's files to Google Drive: through Google's client libraries (extra `drive`), and only at the user's word."""
