"""How far an arm's next-token predictions are from the reference's: texts → stage → summary."""
