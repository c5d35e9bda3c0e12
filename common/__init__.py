"""The ground floor, of use to every command: result folders, resumable work, one `main`; it knows no method."""
