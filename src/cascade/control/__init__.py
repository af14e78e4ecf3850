"""Commands to runs and looks at them, from any process that can reach their store."""
