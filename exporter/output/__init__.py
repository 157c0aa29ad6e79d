"""The directory of an export: made aside, resumed, given its name when it is whole."""
