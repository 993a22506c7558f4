"""The networks that come with the project, a family a file."""
