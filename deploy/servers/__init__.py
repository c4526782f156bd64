"""Launchers for real server programs, each a plain child process in a private folder."""
