"""Reports of studies: tables, pictures and one page, from the lines of their folders."""
