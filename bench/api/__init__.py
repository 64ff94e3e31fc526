"""The public API, which users import as `purifybench`. Nothing here is imported before it is used."""
