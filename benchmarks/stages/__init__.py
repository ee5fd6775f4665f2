"""One module a kind of stage: ``run(settings, context)`` fills a directory from settings and parents."""
