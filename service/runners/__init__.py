"""Who does the work of a flow: built-in demonstration code, or a service behind HTTP."""
