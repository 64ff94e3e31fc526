"""Long work on a borrowed GPU in commands of minutes: `zoo` trains networks, `archive` carries folders to and fro."""
