"""Which documents belong together: copies, near-duplicates, families from one template; and passages they share."""
