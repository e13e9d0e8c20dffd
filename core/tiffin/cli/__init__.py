"""The command line: a thin front end. Reads query projections; writes call the engine."""
