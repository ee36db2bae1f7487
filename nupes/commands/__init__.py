"""The subcommands of ``nupes``, one module each: options in, a call of the public API, text or JSON
out."""
